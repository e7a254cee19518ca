"""Cases: groups, deduplication, attempts."""

from hashlib import sha256

from benchmarks.sqs_cases.asking import BY_CONTENT, FIFO, Asked, case, refused


@case(
    "SendMessageRequest.MessageGroupId",
    "If you do not provide a MessageGroupId when sending a message to a FIFO queue, the action fails.",
)
def a_fifo_message_has_a_group(sqs: Asked) -> None:
    refused(sqs.send, url=sqs.queue(**BY_CONTENT))


@case(
    "SendMessageRequest.MessageGroupId",
    "ensuring that no two messages from the same group are processed simultaneously",
)
def a_group_is_locked_while_a_message_is_in_flight(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    for body in "ab":
        sqs.send(url, body, MessageGroupId="g")
    (first,) = sqs.receive(url, 1)
    assert sqs.bodies(url) == []
    sqs.delete(url, first)
    assert sqs.bodies(url) == ["b"]


@case("SendMessageRequest.MessageGroupId", "For each MessageGroupId , the messages are sorted by time sent.")
def what_comes_back_comes_before_what_was_behind_it(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    for body in "abc":
        sqs.send(url, body, MessageGroupId="g")
    first, second = sqs.receive(url, 2)
    sqs.show(url, second, 0)
    sqs.show(url, first, 0)
    assert sqs.bodies(url) == ["a", "b", "c"]


@case(
    "SendMessageRequest.MessageGroupId", "messages with the same MessageGroupId can be processed in parallel"
)
def a_group_of_a_standard_queue_locks_nothing(sqs: Asked) -> None:
    url = sqs.queue()
    for _ in range(2):
        sqs.send(url, MessageGroupId="g")
    assert len(sqs.receive(url, 1)) == len(sqs.receive(url, 1)) == 1


@case(
    "SendMessageRequest.MessageDeduplicationId",
    "are accepted successfully but aren't delivered during the 5-minute deduplication interval",
)
def a_duplicate_is_accepted_and_not_delivered(sqs: Asked) -> None:
    url = sqs.queue(**FIFO)
    for body in "ab":
        sqs.send(url, body, MessageGroupId="g", MessageDeduplicationId="1")
    assert sqs.bodies(url) == ["a"]


@case(
    "SendMessageRequest.MessageDeduplicationId",
    "Amazon SQS continues to keep track of the message deduplication ID even after the message "
    "is received and deleted.",
)
def a_duplicate_of_a_deleted_message_is_not_delivered(sqs: Asked) -> None:
    url = sqs.queue(**FIFO)
    sqs.send(url, MessageGroupId="g", MessageDeduplicationId="1")
    (message,) = sqs.receive(url)
    sqs.delete(url, message)
    sqs.send(url, MessageGroupId="g", MessageDeduplicationId="1")
    assert sqs.bodies(url) == []


@case("SendMessageRequest.MessageDeduplicationId", "your MessageDeduplicationId overrides the generated one")
def an_id_of_ones_own_comes_before_the_content(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    for id in "12":
        sqs.send(url, MessageGroupId="g", MessageDeduplicationId=id)
    assert sqs.bodies(url) == ["x", "x"]


@case(
    "SendMessageRequest.MessageDeduplicationId",
    "If you don't provide a MessageDeduplicationId and the queue doesn't have "
    "ContentBasedDeduplication set, the action fails with an error.",
)
def a_fifo_message_has_something_to_deduplicate_by(sqs: Asked) -> None:
    refused(sqs.send, url=sqs.queue(**FIFO), MessageGroupId="g")


@case(
    "SendMessageRequest.MessageDeduplicationId",
    "The maximum length of MessageDeduplicationId is 128 characters.",
)
def a_deduplication_id_has_at_most_128_characters(sqs: Asked) -> None:
    url = sqs.queue(**FIFO)
    sqs.send(url, MessageGroupId="g", MessageDeduplicationId="x" * 128)
    refused(sqs.send, url=url, MessageGroupId="g", MessageDeduplicationId="x" * 129)


@case(
    "SendMessageResult.SequenceNumber",
    "SequenceNumber continues to increase for a particular MessageGroupId .",
)
def sequence_numbers_grow(sqs: Asked) -> None:
    url = sqs.queue(**FIFO)
    numbers = [
        int(sqs.send(url, MessageGroupId="g", MessageDeduplicationId=id)["SequenceNumber"])
        for id in "abcdefgh"
    ]
    assert numbers == sorted(set(numbers))


@case(
    "ReceiveMessageRequest.ReceiveRequestAttemptId",
    "subsequent calls with the same ReceiveRequestAttemptId return the same messages and receipt handles",
)
def a_repeated_attempt_gets_the_same(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    sqs.send(url, MessageGroupId="g")
    (first,) = sqs.receive(url, ReceiveRequestAttemptId="a")
    (again,) = sqs.receive(url, ReceiveRequestAttemptId="a")
    assert again["ReceiptHandle"] == first["ReceiptHandle"]


@case("SendMessageBatch", "multiple messages within a single batch are enqueued in the order they are sent")
def a_batch_keeps_its_order(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    entries = [{"Id": str(n), "MessageBody": str(n), "MessageGroupId": "g"} for n in range(10)]
    sqs.client.send_message_batch(QueueUrl=url, Entries=entries)
    assert sqs.bodies(url) == [str(n) for n in range(10)]


@case(
    "SendMessageRequest.MessageDeduplicationId", "uses a SHA-256 hash to generate the MessageDeduplicationId"
)
def the_generated_id_is_the_digest_of_the_body(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    sqs.send(url, MessageGroupId="g", MessageAttributes={"a": {"DataType": "String", "StringValue": "1"}})
    sqs.send(url, MessageGroupId="g")
    sqs.send(url, "other", MessageGroupId="g", MessageDeduplicationId=sha256(b"x").hexdigest())
    (message,) = sqs.receive(url, AttributeNames=["MessageDeduplicationId"])
    assert message["Attributes"]["MessageDeduplicationId"] == sha256(b"x").hexdigest()


@case("CreateQueueRequest.Attributes", "occurs at the message group or queue level")
def deduplication_is_by_queue_or_by_group(sqs: Asked) -> None:
    for scope, count in (("queue", 1), ("messageGroup", 2)):
        url = sqs.queue(**FIFO, DeduplicationScope=scope)
        for group in "gh":
            sqs.send(url, MessageGroupId=group, MessageDeduplicationId="1")
        assert len(sqs.receive(url)) == count


@case("SendMessageRequest.MessageDeduplicationId", "This parameter applies only to FIFO")
def a_standard_queue_has_no_deduplication(sqs: Asked) -> None:
    refused(sqs.send, url=sqs.queue(), MessageDeduplicationId="1")
    refused(sqs.receive, url=sqs.queue(), ReceiveRequestAttemptId="1")


@case("SendMessageRequest.MessageGroupId", "The length of MessageGroupId is 128 characters.")
def a_group_has_at_most_128_characters(sqs: Asked) -> None:
    for url in (sqs.queue(**BY_CONTENT), sqs.queue()):
        sqs.send(url, MessageGroupId="!" * 128)
        for group in ("x" * 129, "a b", "ä"):
            refused(sqs.send, url=url, MessageGroupId=group)


@case("SendMessageRequest.MessageDeduplicationId", "is available to the consumer of the message")
def the_consumer_is_told_group_id_and_number(sqs: Asked) -> None:
    url = sqs.queue(**FIFO)
    sent = sqs.send(url, MessageGroupId="g", MessageDeduplicationId="d")
    (message,) = sqs.receive(url, AttributeNames=["All"])
    told = message["Attributes"]
    assert (told["MessageGroupId"], told["MessageDeduplicationId"]) == ("g", "d")
    assert told["SequenceNumber"] == sent["SequenceNumber"]


@case("SendMessageRequest.DelaySeconds", "You can set this parameter only on a queue level.")
def a_delay_of_the_queue_holds(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT, DelaySeconds=1)
    for body in "ab":
        sqs.send(url, body, MessageGroupId="g")
    assert sqs.bodies(url) == []
    assert sqs.bodies(url, 1, WaitTimeSeconds=5) == ["a"]


@case(
    "ReceiveMessageRequest.ReceiveRequestAttemptId",
    "if none of the messages have been modified (deleted or had their visibility changes)",
)
def an_attempt_whose_messages_were_changed_is_a_new_one(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    for body in "ab":
        sqs.send(url, body, MessageGroupId=body)
    (first,) = sqs.receive(url, 1, ReceiveRequestAttemptId="a")
    sqs.delete(url, first)
    assert sqs.bodies(url, 1, ReceiveRequestAttemptId="a") == ["b"]


@case(
    "ReceiveMessageRequest.ReceiveRequestAttemptId",
    "You can still receive messages with another MessageGroupId from your FIFO queue as long as they are",
)
def other_groups_go_on(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    for body, group in (("a", "g"), ("b", "g"), ("c", "h")):
        sqs.send(url, body, MessageGroupId=group)
    assert sqs.bodies(url, 1) == ["a"]
    assert sqs.bodies(url) == ["c"]
