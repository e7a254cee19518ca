"""Cases: visibility timeouts, receipt handles, deleting, purging."""

from benchmarks.sqs_cases.asking import BY_CONTENT, Asked, case, refused


@case("ChangeMessageVisibility", "The minimum is 0 seconds. The maximum is 12 hours.")
def a_messages_timeout_is_0_to_12_hours(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url)
    for seconds in (-1, 43_201):
        refused(sqs.show, url=url, message=message, seconds=seconds)
    sqs.show(url, message, 0)
    assert sqs.bodies(url) == ["x"]


@case("ReceiveMessage", "The parameter is applied to the messages that Amazon SQS returns in the response.")
def a_receives_own_timeout_holds(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    assert sqs.bodies(url, VisibilityTimeout=1) == ["x"]
    assert sqs.bodies(url) == []
    assert sqs.bodies(url, WaitTimeSeconds=5) == ["x"]


@case(
    "DeleteMessage",
    "If you receive the same message more than once, you will get a different ReceiptHandle each time.",
)
def every_receive_has_a_handle_of_its_own(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (first,) = sqs.receive(url, VisibilityTimeout=0)
    (second,) = sqs.receive(url)
    assert first["ReceiptHandle"] != second["ReceiptHandle"]


@case(
    "DeleteMessage",
    "If you use an old ReceiptHandle , the request will succeed, but the message might not be deleted.",
)
def deleting_by_an_old_handle_succeeds(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (old,) = sqs.receive(url, VisibilityTimeout=0)
    (_,) = sqs.receive(url)
    sqs.delete(url, old)


@case(
    "DeleteMessage",
    "Amazon SQS can delete a message from a queue even if a visibility timeout setting causes "
    "the message to be locked by another consumer.",
)
def deleting_takes_a_message_in_flight(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url)
    sqs.delete(url, message)
    assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "0"


@case("ReceiptHandleIsInvalid", "The specified receipt handle isn't valid.")
def text_that_is_no_handle_is_refused(sqs: Asked) -> None:
    refused(sqs.delete, "ReceiptHandleIsInvalid", url=sqs.queue(), message={"ReceiptHandle": "no"})


@case("PurgeQueue", "Deletes available messages in a queue (including in-flight messages)")
def a_purge_takes_what_is_in_flight_too(sqs: Asked) -> None:
    url = sqs.queue()
    for _ in range(2):
        sqs.send(url)
    sqs.receive(url, 1, VisibilityTimeout=1)
    sqs.client.purge_queue(QueueUrl=url)
    assert sqs.bodies(url, WaitTimeSeconds=2) == []


@case("PurgeQueueInProgress", "within the last 60 seconds")
def a_second_purge_within_60_seconds_is_refused(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.client.purge_queue(QueueUrl=url)
    refused(sqs.client.purge_queue, "PurgeQueueInProgress", QueueUrl=url)


@case(
    "ChangeMessageVisibility",
    "If you attempt to set the VisibilityTimeout to a value greater than the maximum time left, Amazon SQS "
    "returns an error.",
)
def a_message_is_hidden_for_12_hours_in_all(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url, VisibilityTimeout=43_200)
    refused(sqs.show, url=url, message=message, seconds=43_200)
    sqs.show(url, message, 43_000)


@case(
    "ChangeMessageVisibility",
    "the visibility timeout for the message reverts to the original timeout value",
)
def a_changed_timeout_is_for_this_receive_alone(sqs: Asked) -> None:
    url = sqs.queue(VisibilityTimeout=600)
    sqs.send(url)
    (message,) = sqs.receive(url)
    sqs.show(url, message, 0)
    assert sqs.bodies(url) == ["x"]
    assert sqs.bodies(url) == []


@case(
    "ReceiveMessageRequest.ReceiveRequestAttemptId",
    "tries to delete the processed messages, the action fails with an error",
)
def deleting_from_a_fifo_queue_too_late_is_refused(sqs: Asked) -> None:
    url = sqs.queue(**BY_CONTENT)
    sqs.send(url, MessageGroupId="g")
    (late,) = sqs.receive(url, VisibilityTimeout=0)
    assert sqs.bodies(url, WaitTimeSeconds=5) == ["x"]
    refused(sqs.delete, url=url, message=late)


@case("ChangeMessageVisibilityBatch", "The result of the action on each message is reported individually")
def one_bad_handle_fails_alone(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url)
    entries = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "no"}]
    changed = [{**entry, "VisibilityTimeout": 60} for entry in entries]
    for reply in (
        sqs.client.change_message_visibility_batch(QueueUrl=url, Entries=changed),
        sqs.client.delete_message_batch(QueueUrl=url, Entries=entries),
    ):
        assert [entry["Id"] for entry in reply["Successful"]] == ["a"]
        assert [(entry["Id"], entry["SenderFault"]) for entry in reply["Failed"]] == [("b", True)]


@case("GetQueueAttributesRequest.AttributeNames", "have not yet been deleted or have not yet reached the end")
def counts_tell_waiting_delayed_and_in_flight_apart(sqs: Asked) -> None:
    url = sqs.queue()
    for seconds in (0, 0, 600):
        sqs.send(url, DelaySeconds=seconds)
    sqs.receive(url, 1)
    names = ("", "NotVisible", "Delayed")
    assert [sqs.attribute(url, f"ApproximateNumberOfMessages{name}") for name in names] == ["1", "1", "1"]
