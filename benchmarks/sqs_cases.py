"""Cases of what SQS does, written here, each with the sentence of AWS's API reference that it rests on.

The sentences stand in the service model that botocore carries; tests/test_sqs_cases.py looks them up.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class Asked:
    """A server that is asked, by boto3."""

    def __init__(self, url: str) -> None:
        self.client: Any = boto3.client(
            "sqs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
        )

    def queue(self, **attributes: object) -> str:
        """Make a queue; with FifoQueue, a FIFO queue."""
        name = f"case-{uuid.uuid4().hex}" + (".fifo" if "FifoQueue" in attributes else "")
        values = {key: str(value) for key, value in attributes.items()}
        return str(self.client.create_queue(QueueName=name, Attributes=values)["QueueUrl"])

    def send(self, url: str, body: str = "x", **more: Any) -> Any:
        """Send a message."""
        return self.client.send_message(QueueUrl=url, MessageBody=body, **more)

    def receive(self, url: str, most: int = 10, **more: Any) -> list[Any]:
        """Receive messages."""
        reply = self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=most, **more)
        return list(reply.get("Messages", []))

    def bodies(self, url: str, most: int = 10, **more: Any) -> list[str]:
        """Receive messages, and return what is in them."""
        return [message["Body"] for message in self.receive(url, most, **more)]

    def attribute(self, url: str, name: str) -> str | None:
        """Return one attribute of a queue."""
        reply = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        value: str | None = reply.get("Attributes", {}).get(name)
        return value

    def show(self, url: str, message: Any, seconds: int) -> None:
        """Change a message's visibility timeout."""
        self.client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def delete(self, url: str, message: Any) -> None:
        """Delete a message."""
        self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@dataclass(frozen=True)
class Case:
    """What has to hold, and why."""

    name: str
    # where botocore's service model has it: operation, or shape and member
    place: str
    sentence: str
    holds: Callable[[Asked], None]


CASES: list[Case] = []


def case(place: str, sentence: str) -> Callable[[Callable[[Asked], None]], Callable[[Asked], None]]:
    """Add a case."""

    def add(holds: Callable[[Asked], None]) -> Callable[[Asked], None]:
        CASES.append(Case(holds.__name__.replace("_", " "), place, sentence, holds))
        return holds

    return add


def refused(call: Callable[..., Any], *codes: str, **arguments: Any) -> None:
    """See that a call is refused, with one of these codes if any are given."""
    try:
        call(**arguments)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status < 500, f"refused with {status}"
        code = error.response["Error"]["Code"]
        assert not codes or any(wanted in code for wanted in codes), f"refused with {code}"
        return
    raise AssertionError("was not refused")


FIFO: dict[str, object] = {"FifoQueue": "true"}
BY_CONTENT = {**FIFO, "ContentBasedDeduplication": "true"}


# Queues


@case(
    "CreateQueue",
    "the CreateQueue action will return the URL of the existing queue instead of creating a new one",
)
def the_same_queue_twice_is_one(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    urls = {
        sqs.client.create_queue(QueueName=name, Attributes={"DelaySeconds": "3"})["QueueUrl"] for _ in "ab"
    }
    assert len(urls) == 1


@case("CreateQueue", "with different attribute names or values, the CreateQueue action will return an error")
def another_value_is_refused(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    sqs.client.create_queue(QueueName=name, Attributes={"DelaySeconds": "3"})
    refused(sqs.client.create_queue, QueueName=name, Attributes={"DelaySeconds": "4"})


@case("CreateQueue", "you must wait at least 60 seconds before creating a queue with the same name")
def a_deleted_queues_name_is_not_free_at_once(sqs: Asked) -> None:
    name = f"case-{uuid.uuid4().hex}"
    url = sqs.client.create_queue(QueueName=name)["QueueUrl"]
    sqs.client.delete_queue(QueueUrl=url)
    refused(sqs.client.create_queue, "QueueDeletedRecently", QueueName=name)


@case(
    "CreateQueueRequest.QueueName",
    "Valid values: alphanumeric characters, hyphens ( - ), and underscores ( _ ).",
)
def names_have_letters_digits_hyphens_and_underscores(sqs: Asked) -> None:
    for name in ("a b", "a.b", "ä", "x" * 81):
        refused(sqs.client.create_queue, QueueName=name)


@case("CreateQueueRequest.QueueName", "A FIFO queue name must end with the .fifo suffix.")
def a_fifo_queue_has_its_suffix(sqs: Asked) -> None:
    refused(sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes={"FifoQueue": "true"})


@case(
    "SetQueueAttributesRequest.Attributes", "Valid values: An integer from 0 to 900 (15 minutes). Default: 0."
)
def a_queues_delay_is_0_to_900(sqs: Asked) -> None:
    assert sqs.attribute(sqs.queue(), "DelaySeconds") == "0"
    for value in ("-1", "901", "soon"):
        refused(
            sqs.client.create_queue, QueueName=f"c-{uuid.uuid4().hex}", Attributes={"DelaySeconds": value}
        )


@case(
    "SetQueueAttributesRequest.Attributes",
    "Valid values: An integer from 1,024 bytes (1 KiB) up to 1,048,576 bytes (1 MiB). Default: "
    "1,048,576 bytes (1 MiB).",
)
def a_messages_largest_size_is_1_kib_to_1_mib(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "MaximumMessageSize") == "1048576"
    for value in ("1023", "1048577"):
        refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"MaximumMessageSize": value})


@case(
    "SetQueueAttributesRequest.Attributes",
    "from 60 (1 minute) to 1,209,600 (14 days). Default: 345,600 (4 days)",
)
def retention_is_a_minute_to_14_days(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "MessageRetentionPeriod") == "345600"
    for value in ("59", "1209601"):
        refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"MessageRetentionPeriod": value})


@case(
    "SetQueueAttributesRequest.Attributes",
    "Valid values: An integer from 0 to 43,200 (12 hours). Default: 30.",
)
def a_queues_visibility_timeout_is_0_to_12_hours(sqs: Asked) -> None:
    url = sqs.queue()
    assert sqs.attribute(url, "VisibilityTimeout") == "30"
    refused(sqs.client.set_queue_attributes, QueueUrl=url, Attributes={"VisibilityTimeout": "43201"})


@case("ListQueues", "only queues with a name that begins with the specified value are returned")
def queues_are_listed_by_prefix(sqs: Asked) -> None:
    url, _ = sqs.queue(), sqs.queue()
    prefix = url.rpartition("/")[2][:20]
    assert sqs.client.list_queues(QueueNamePrefix=prefix)["QueueUrls"] == [url]


@case(
    "ListQueues",
    "If you set MaxResults and there are additional results to display, the response includes "
    "a value for NextToken",
)
def queues_are_listed_in_pages(sqs: Asked) -> None:
    for _ in range(3):
        sqs.queue()
    first = sqs.client.list_queues(QueueNamePrefix="case-", MaxResults=2)
    assert len(first["QueueUrls"]) == 2
    rest = sqs.client.list_queues(QueueNamePrefix="case-", MaxResults=1000, NextToken=first["NextToken"])
    assert rest["QueueUrls"] and not set(rest["QueueUrls"]) & set(first["QueueUrls"])


# Sending and receiving


@case("SendMessageRequest.MessageBody", "The minimum size is one character.")
def an_empty_body_is_refused(sqs: Asked) -> None:
    refused(sqs.send, url=sqs.queue(), body="")


@case("SendMessageRequest.MessageBody", "The maximum size is 1 MiB or 1,048,576 bytes")
def a_body_is_at_most_1_mib_in_bytes(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url, "é" * 524_288)
    refused(sqs.send, url=url, body="é" * 524_288 + "x")


@case(
    "SendMessageRequest.MessageBody",
    "Amazon SQS rejects the message and returns an InvalidMessageContents error",
)
def characters_outside_the_set_are_refused(sqs: Asked) -> None:
    refused(sqs.send, "InvalidMessageContents", url=sqs.queue(), body="a\x00")
    refused(sqs.send, "InvalidMessageContents", url=sqs.queue(), body="a\ufffe")


@case(
    "SendMessageResult.MD5OfMessageBody",
    "You can use this attribute to verify that Amazon SQS received the message correctly.",
)
def the_digest_is_the_bodys(sqs: Asked) -> None:
    assert sqs.send(sqs.queue(), "é\n<&>")["MD5OfMessageBody"] == md5("é\n<&>".encode()).hexdigest()


@case(
    "SendMessageRequest.DelaySeconds",
    "Messages with a positive DelaySeconds value become available for processing after the "
    "delay period is finished.",
)
def a_delayed_message_comes_after_its_delay(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url, DelaySeconds=1)
    assert sqs.bodies(url) == []
    assert sqs.bodies(url, WaitTimeSeconds=5) == ["x"]


@case("SendMessageRequest.DelaySeconds", "Valid values: 0 to 900. Maximum: 15 minutes.")
def a_messages_delay_is_0_to_900(sqs: Asked) -> None:
    url = sqs.queue()
    for seconds in (-1, 901):
        refused(sqs.send, url=url, DelaySeconds=seconds)


@case("SendMessageRequest.DelaySeconds", "When you set FifoQueue , you can't set DelaySeconds per message.")
def a_fifo_message_has_no_delay_of_its_own(sqs: Asked) -> None:
    refused(sqs.send, url=sqs.queue(**BY_CONTENT), MessageGroupId="g", DelaySeconds=5)


@case("ReceiveMessageRequest.MaxNumberOfMessages", "Valid values: 1 to 10. Default: 1.")
def a_receive_takes_1_to_10_and_by_default_1(sqs: Asked) -> None:
    url = sqs.queue()
    for _ in range(2):
        sqs.send(url)
    assert len(sqs.client.receive_message(QueueUrl=url)["Messages"]) == 1
    for most in (0, 11):
        refused(sqs.receive, url=url, most=most)


@case(
    "ReceiveMessageRequest.WaitTimeSeconds",
    "If a message is available, the call returns sooner than WaitTimeSeconds .",
)
def a_long_poll_ends_when_a_message_is_there(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url, DelaySeconds=1)
    started = time.monotonic()
    assert sqs.bodies(url, WaitTimeSeconds=15) == ["x"]
    assert time.monotonic() - started < 10


@case("SendMessageBatch", "The result of sending each message is reported individually in the response.")
def one_bad_entry_fails_alone(sqs: Asked) -> None:
    entries = [{"Id": "a", "MessageBody": "x"}, {"Id": "b", "MessageBody": "x", "DelaySeconds": 901}]
    reply = sqs.client.send_message_batch(QueueUrl=sqs.queue(), Entries=entries)
    assert [entry["Id"] for entry in reply["Successful"]] == ["a"]
    assert [entry["Id"] for entry in reply["Failed"]] == ["b"]


@case("TooManyEntriesInBatchRequest", "DeleteMessageBatch , or ChangeMessageVisibilityBatch request is 10.")
def a_batch_has_at_most_10_entries(sqs: Asked) -> None:
    entries = [{"Id": str(i), "MessageBody": "x"} for i in range(11)]
    refused(sqs.client.send_message_batch, "TooManyEntries", QueueUrl=sqs.queue(), Entries=entries)


@case("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id .")
def ids_of_a_batch_are_distinct(sqs: Asked) -> None:
    entries = [{"Id": "a", "MessageBody": "x"}] * 2
    refused(sqs.client.send_message_batch, "BatchEntryIdsNotDistinct", QueueUrl=sqs.queue(), Entries=entries)


# Visibility and deleting


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


# Dead letters


def with_dead_letters(sqs: Asked, most: object, dead: str) -> str:
    """Make a queue whose messages become dead letters after so many receives."""
    policy = {"deadLetterTargetArn": sqs.attribute(dead, "QueueArn"), "maxReceiveCount": most}
    return sqs.queue(RedrivePolicy=json.dumps(policy), VisibilityTimeout=0)


@case(
    "SetQueueAttributesRequest.Attributes",
    "When the ReceiveCount for a message exceeds the maxReceiveCount for a queue, Amazon SQS "
    "moves the message to the dead-letter-queue.",
)
def a_message_received_too_often_is_a_dead_letter(sqs: Asked) -> None:
    dead = sqs.queue()
    url = with_dead_letters(sqs, 1, dead)
    sqs.send(url)
    assert sqs.bodies(url) == ["x"]
    assert sqs.bodies(url) == []
    assert sqs.bodies(dead) == ["x"]


@case(
    "SetQueueAttributesRequest.Attributes", "The dead-letter queue of a FIFO queue must also be a FIFO queue."
)
def a_dead_letter_queue_is_of_the_same_type(sqs: Asked) -> None:
    dead = sqs.queue(**FIFO)
    refused(with_dead_letters, sqs=sqs, most=1, dead=dead)


@case(
    "SetQueueAttributesRequest.Attributes",
    "denyAll – No source queues can specify this queue as the dead-letter queue.",
)
def a_queue_may_refuse_to_be_a_dead_letter_queue(sqs: Asked) -> None:
    dead = sqs.queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    refused(with_dead_letters, sqs=sqs, most=1, dead=dead)


# FIFO


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
