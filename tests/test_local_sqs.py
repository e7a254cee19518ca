"""What SQS does, asked of the local SQS with boto3 over HTTP.

`python -m benchmarks.local_sqs --part differences` asks moto's server the same; where it does otherwise,
`benchmarks/moto_differences.py` has AWS's word on it.
"""

import json
import os
import threading
from base64 import b64encode
from hashlib import md5
from typing import Any

import pytest

from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import (
    LocalSqs,
    Sqs,
    client_of,
    error_of,
    fresh_name,
)

pytestmark = pytest.mark.slow

local = fixtures.local
local_server = fixtures.local_server


@pytest.fixture(scope="module")
def sqs(request: pytest.FixtureRequest) -> Sqs:
    """Yield the local SQS, or another server that `benchmarks.local_sqs --part differences` asks the same."""
    other = os.environ.get("SQS_UNDER_TEST")
    if other:
        return Sqs(client_of(other))
    server: LocalSqs = request.getfixturevalue("local_server")
    return Sqs(client_of(server.url))


# Queues


def test_a_queue_is_found_by_its_name(sqs: Sqs) -> None:
    name = fresh_name()
    url = sqs.queue(name)
    assert sqs.client.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert url.endswith(f"/{name}")


def test_creating_twice_with_the_same_attributes_gives_the_same_queue(sqs: Sqs) -> None:
    name = fresh_name()
    assert sqs.queue(name, DelaySeconds=1) == sqs.queue(name, DelaySeconds=1) == sqs.queue(name)


def test_creating_twice_with_other_attributes_is_refused(sqs: Sqs) -> None:
    name = fresh_name()
    sqs.queue(name, DelaySeconds=1)
    code, message = error_of(sqs.client.create_queue, QueueName=name, Attributes={"DelaySeconds": "2"})
    assert code == "QueueAlreadyExists"
    assert message == (
        "A queue already exists with the same name and a different value for attribute DelaySeconds"
    )


def test_a_missing_queue_does_not_exist(sqs: Sqs) -> None:
    with pytest.raises(sqs.client.exceptions.QueueDoesNotExist) as caught:
        sqs.client.get_queue_url(QueueName=fresh_name())
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    url = sqs.queue()
    sqs.client.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.client.exceptions.QueueDoesNotExist):
        sqs.receive(url)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 81, "a/b"])
def test_names_outside_the_syntax_are_refused(sqs: Sqs, name: str) -> None:
    assert error_of(sqs.client.create_queue, QueueName=name)[0] == "InvalidParameterValue"


def test_the_longest_names_are_taken(sqs: Sqs) -> None:
    unique = fresh_name()
    assert sqs.queue(unique + "x" * (80 - len(unique)))
    assert sqs.queue(unique + "x" * (75 - len(unique)) + ".fifo", FifoQueue="true")


def test_a_fifo_queue_needs_its_suffix(sqs: Sqs) -> None:
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"FifoQueue": "true"})
    assert code == "InvalidParameterValue"


def test_the_fifo_suffix_needs_a_fifo_queue(sqs: Sqs) -> None:
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name() + ".fifo")
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DelaySeconds", "901"),
        ("DelaySeconds", "-1"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", "1048577"),
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("VisibilityTimeout", "43201"),
        ("VisibilityTimeout", "thirty"),
    ],
)
def test_attributes_outside_their_range_are_refused(sqs: Sqs, name: str, value: str) -> None:
    code, message = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={name: value})
    assert (code, message) == ("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def test_unknown_attributes_are_refused(sqs: Sqs) -> None:
    url = sqs.queue()
    code, message = error_of(sqs.client.get_queue_attributes, QueueUrl=url, AttributeNames=["Colour"])
    assert (code, message) == ("InvalidAttributeName", "Unknown Attribute Colour.")


def test_setting_unknown_attributes_is_refused(sqs: Sqs) -> None:
    code, message = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"Colour": "red"})
    assert (code, message) == ("InvalidAttributeName", "Unknown Attribute Colour.")


def test_a_new_queue_has_awss_defaults(sqs: Sqs) -> None:
    url = sqs.queue()
    every = sqs.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    expected = {
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "DelaySeconds": "0",
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "ReceiveMessageWaitTimeSeconds": "0",
        "SqsManagedSseEnabled": "true",
        "VisibilityTimeout": "30",
    }
    assert {name: every[name] for name in expected} == expected  # type: ignore[index]
    assert every["QueueArn"].endswith(url.rpartition("/")[2])
    assert int(every["CreatedTimestamp"]) > 1_700_000_000


def test_a_fifo_queue_has_its_own_defaults(sqs: Sqs) -> None:
    every = sqs.client.get_queue_attributes(QueueUrl=sqs.fifo(), AttributeNames=["All"])["Attributes"]
    assert every["FifoQueue"] == "true"
    assert every["ContentBasedDeduplication"] == "false"
    assert every["DeduplicationScope"] == "queue"
    assert every["FifoThroughputLimit"] == "perQueue"


def test_attributes_can_be_changed(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.client.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "77"})
    assert sqs.attribute(url, "VisibilityTimeout") == "77"


def test_queues_are_listed_by_prefix(sqs: Sqs) -> None:
    prefix = fresh_name()[:20]
    urls = {sqs.queue(f"{prefix}-{i}") for i in range(3)}
    assert set(sqs.client.list_queues(QueueNamePrefix=prefix)["QueueUrls"]) == urls
    assert not sqs.client.list_queues(QueueNamePrefix=prefix + "-none").get("QueueUrls")


def test_queues_are_listed_in_pages(sqs: Sqs) -> None:
    prefix = fresh_name()[:20]
    urls = {sqs.queue(f"{prefix}-{i}") for i in range(5)}
    pages = sqs.client.get_paginator("list_queues").paginate(
        QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    sizes = [len(page["QueueUrls"]) for page in pages]
    assert sizes == [2, 2, 1]
    listed = sqs.client.get_paginator("list_queues").paginate(
        QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    assert {url for page in listed for url in page["QueueUrls"]} == urls


def test_a_deleted_queues_name_is_free_after_60_seconds(sqs: Sqs) -> None:
    name = fresh_name()
    sqs.client.delete_queue(QueueUrl=sqs.queue(name))
    assert (
        error_of(sqs.client.create_queue, QueueName=name)[0] == "AWS.SimpleQueueService.QueueDeletedRecently"
    )


def test_purging_removes_what_waits_and_what_is_in_flight(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "a", "b")
    assert len(sqs.receive(url, 1)) == 1
    sqs.client.purge_queue(QueueUrl=url)
    assert sqs.receive(url) == []
    assert sqs.attribute(url, "ApproximateNumberOfMessages") == "0"


def test_a_second_purge_within_60_seconds_is_refused(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.client.purge_queue(QueueUrl=url)
    code, message = error_of(sqs.client.purge_queue, QueueUrl=url)
    assert code == "AWS.SimpleQueueService.PurgeQueueInProgress"
    assert (
        message == f"Only one PurgeQueue operation on {url.rpartition('/')[2]} is allowed every 60 seconds."
    )


def test_tags_are_kept_changed_and_removed(sqs: Sqs) -> None:
    url = sqs.client.create_queue(QueueName=fresh_name(), tags={"a": "1", "b": "2"})["QueueUrl"]
    sqs.client.tag_queue(QueueUrl=url, Tags={"b": "3", "c": ""})
    assert sqs.client.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "1", "b": "3", "c": ""}
    sqs.client.untag_queue(QueueUrl=url, TagKeys=["a", "b", "c"])
    assert not sqs.client.list_queue_tags(QueueUrl=url).get("Tags")


# Messages


def test_a_message_comes_back_as_it_was_sent(sqs: Sqs) -> None:
    url, body = sqs.queue(), 'é ☃ 🦊 "quoted" \t\n\r <&> \\'
    (sent,) = sqs.send(url, body)
    (message,) = sqs.receive(url)
    digest = md5(body.encode()).hexdigest()
    assert message["Body"] == body
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == digest


def test_order_within_a_standard_queue_is_kept_where_nothing_fails(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, *"abcdef")
    assert sqs.bodies(url) == list("abcdef")


def test_an_empty_queue_gives_no_list_of_messages(sqs: Sqs) -> None:
    assert "Messages" not in sqs.client.receive_message(QueueUrl=sqs.queue())


@pytest.mark.parametrize("body", ["\0", "a\x0bb", "\x1f", "￾", "\uffff"])
def test_forbidden_characters_are_refused(sqs: Sqs, body: str) -> None:
    code, message = error_of(sqs.client.send_message, QueueUrl=sqs.queue(), MessageBody=body)
    assert code == "InvalidMessageContents"
    assert "the set of allowed characters is" in message


def test_lone_surrogates_are_refused(sqs: Sqs) -> None:
    url = sqs.queue()
    assert (
        error_of(sqs.client.send_message, QueueUrl=url, MessageBody="\ud800")[0] == "InvalidMessageContents"
    )


def test_an_empty_body_is_refused(sqs: Sqs) -> None:
    code, message = error_of(sqs.client.send_message, QueueUrl=sqs.queue(), MessageBody="")
    assert (code, message) == ("MissingParameter", "The request must contain the parameter MessageBody.")


def test_one_mebibyte_is_the_most_that_a_message_takes(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x" * 1_048_576)
    code, message = error_of(sqs.client.send_message, QueueUrl=url, MessageBody="x" * 1_048_577)
    assert code == "InvalidParameterValue"
    assert (
        message == "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."
    )


def test_the_size_of_a_message_is_in_bytes_and_has_its_attributes_in_it(sqs: Sqs) -> None:
    url = sqs.queue(MaximumMessageSize=1024)
    attribute: Any = {"name": {"DataType": "String", "StringValue": "value"}}
    spare = 1024 - len("name" + "String" + "value")
    sqs.send(url, "é" * (spare // 2), MessageAttributes=attribute)
    too_long = "é" * (spare // 2 + 1)
    code, _ = error_of(
        sqs.client.send_message, QueueUrl=url, MessageBody=too_long, MessageAttributes=attribute
    )
    assert code == "InvalidParameterValue"


# names, values and digests as AWS answered them
ATTRIBUTES: Any = {
    "General": {"DataType": "String", "StringValue": "Kenobi"},
    "Hello": {"DataType": "String", "StringValue": "There"},
    "Help.Me": {"DataType": "String", "StringValue": "Me"},
}


@pytest.mark.parametrize(
    ("asked", "named", "digest"),
    [
        (["All"], {"General", "Hello", "Help.Me"}, "4c360f3fdafd970e05fae2f149d997f5"),
        ([".*"], {"General", "Hello", "Help.Me"}, "4c360f3fdafd970e05fae2f149d997f5"),
        (["General", "Hello"], {"General", "Hello"}, "fca026605781cb4126a1e9044df24232"),
        (["Foo", "Hello"], {"Hello"}, "a311262e065454b75da111d535b8dacd"),
        (["Hel.*"], {"Hello", "Help.Me"}, "83fee93c1bcd8b9a5a923ffacdc636c7"),
        (["Foo"], set(), None),
        ([], set(), None),
    ],
)
def test_message_attributes_come_back_as_asked_for(
    sqs: Sqs, asked: list[str], named: set[str], digest: str | None
) -> None:
    url = sqs.queue()
    (sent,) = sqs.send(url, "msg", MessageAttributes=ATTRIBUTES)
    assert sent["MD5OfMessageAttributes"] == "4c360f3fdafd970e05fae2f149d997f5"
    (message,) = sqs.receive(url, MessageAttributeNames=asked)
    assert set(message.get("MessageAttributes", {})) == named
    assert message.get("MD5OfMessageAttributes") == digest


def test_binary_attributes_come_back_with_awss_digest(sqs: Sqs) -> None:
    url, value = sqs.queue(), b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"
    sqs.send(url, "test", MessageAttributes={"attr1": {"DataType": "Binary", "BinaryValue": value}})
    (message,) = sqs.receive(url, MessageAttributeNames=["All"])
    assert message["MessageAttributes"]["attr1"]["BinaryValue"] == value
    assert message["MD5OfMessageAttributes"] == "8cbe4db156db8a94db8b801b7addb984"


@pytest.mark.parametrize(
    "attributes",
    [
        {"a b": {"DataType": "String", "StringValue": "x"}},
        {".a": {"DataType": "String", "StringValue": "x"}},
        {"a..b": {"DataType": "String", "StringValue": "x"}},
        {"AWS.a": {"DataType": "String", "StringValue": "x"}},
        {"a": {"DataType": "Text", "StringValue": "x"}},
        {"a": {"DataType": "String", "StringValue": ""}},
        {"a": {"DataType": "Number", "StringValue": "one"}},
        {f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(11)},
    ],
    ids=["space", "leading period", "successive periods", "reserved", "type", "empty", "number", "eleven"],
)
def test_message_attributes_outside_the_rules_are_refused(sqs: Sqs, attributes: Any) -> None:
    code, _ = error_of(
        sqs.client.send_message, QueueUrl=sqs.queue(), MessageBody="x", MessageAttributes=attributes
    )
    assert code == "InvalidParameterValue"


def test_ten_message_attributes_of_every_type_are_taken(sqs: Sqs) -> None:
    url = sqs.queue()
    kinds = ["String", "String.custom", "Number", "Number.int"]
    attributes: Any = {f"a{i}": {"DataType": kinds[i % 4], "StringValue": str(i - 2.5)} for i in range(10)}
    sqs.send(url, "x", MessageAttributes=attributes)
    (message,) = sqs.receive(url, MessageAttributeNames=["All"])
    assert message["MessageAttributes"] == attributes


def test_system_attributes_come_back_as_asked_for(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x")
    (message,) = sqs.receive(url, AttributeNames=["All"])
    assert set(message["Attributes"]) == {
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
    }
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    (again,) = sqs.receive(url, MessageSystemAttributeNames=["ApproximateReceiveCount"], wait=2)
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    (bare,) = sqs.receive(url, wait=2)
    assert "Attributes" not in bare


def test_the_first_receive_keeps_its_time(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x")
    times = [
        sqs.receive(url, wait=2, AttributeNames=["All"])[0]["Attributes"]["ApproximateFirstReceiveTimestamp"]
        for _ in range(2)
    ]
    assert times[0] == times[1]


def test_a_trace_header_travels_with_the_message(sqs: Sqs) -> None:
    url, header = sqs.queue(), "Root=1-5759e988-bd862e3fe1be46a994272793"
    system: Any = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
    (sent,) = sqs.send(url, "x", MessageSystemAttributes=system)
    (message,) = sqs.receive(url, AttributeNames=["AWSTraceHeader"])
    assert message["Attributes"] == {"AWSTraceHeader": header}
    assert "MD5OfMessageAttributes" not in sent


# Visibility


def test_a_received_message_is_hidden(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    assert sqs.bodies(url) == ["x"]
    assert sqs.bodies(url) == []


def test_a_message_comes_back_when_its_timeout_ends(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=1)
    sqs.send(url, "x")
    (first,) = sqs.receive(url)
    (second,) = sqs.receive(url, wait=5)
    assert second["MessageId"] == first["MessageId"]
    assert second["ReceiptHandle"] != first["ReceiptHandle"]


def test_a_receive_may_have_its_own_timeout(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=600)
    sqs.send(url, "x")
    assert sqs.bodies(url, VisibilityTimeout=1) == ["x"]
    assert sqs.bodies(url, wait=5) == ["x"]


def test_a_timeout_of_zero_makes_a_message_visible_at_once(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    sqs.client.change_message_visibility(
        QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )
    assert sqs.bodies(url, wait=2) == ["x"]


def test_a_timeout_can_be_extended(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=1)
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    sqs.client.change_message_visibility(
        QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60
    )
    assert sqs.bodies(url, wait=2) == []


def test_a_timeout_that_ended_is_not_changed_and_nothing_is_said(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    sqs.client.change_message_visibility(
        QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60
    )
    assert sqs.bodies(url, wait=1) == ["x"]


@pytest.mark.parametrize("seconds", [-1, 43_201])
def test_timeouts_outside_0_to_12_hours_are_refused(sqs: Sqs, seconds: int) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    assert (
        error_of(sqs.client.receive_message, QueueUrl=url, VisibilityTimeout=seconds)[0]
        == "InvalidParameterValue"
    )
    (message,) = sqs.receive(url)
    code, _ = error_of(
        sqs.client.change_message_visibility,
        QueueUrl=url,
        ReceiptHandle=message["ReceiptHandle"],
        VisibilityTimeout=seconds,
    )
    assert code == "InvalidParameterValue"


def test_the_total_timeout_ends_12_hours_after_the_receive(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    code, text = error_of(
        sqs.client.change_message_visibility,
        QueueUrl=url,
        ReceiptHandle=message["ReceiptHandle"],
        VisibilityTimeout=43_200,
    )
    assert code == "InvalidParameterValue"
    assert text == (
        "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the "
        "message is beyond the limit [43200 seconds]"
    )


def test_counts_tell_waiting_delayed_and_in_flight_apart(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "a", "b", "c")
    sqs.send(url, "d", DelaySeconds=600)
    sqs.receive(url, 1)
    assert sqs.attribute(url, "ApproximateNumberOfMessages") == "2"
    assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "1"
    assert sqs.attribute(url, "ApproximateNumberOfMessagesDelayed") == "1"


# Delay


def test_a_delayed_message_comes_when_its_delay_ends(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "late", DelaySeconds=1)
    sqs.send(url, "now")
    assert sqs.bodies(url) == ["now"]
    assert sqs.bodies(url, wait=5) == ["late"]


def test_a_queues_delay_holds_unless_the_message_has_its_own(sqs: Sqs) -> None:
    url = sqs.queue(DelaySeconds=900)
    sqs.send(url, "late")
    sqs.send(url, "now", DelaySeconds=0)
    assert sqs.bodies(url) == ["now"]
    assert sqs.attribute(url, "ApproximateNumberOfMessagesDelayed") == "1"


@pytest.mark.parametrize("seconds", [-1, 901])
def test_delays_outside_0_to_15_minutes_are_refused(sqs: Sqs, seconds: int) -> None:
    code, message = error_of(
        sqs.client.send_message, QueueUrl=sqs.queue(), MessageBody="x", DelaySeconds=seconds
    )
    assert code == "InvalidParameterValue"
    assert message == (
        f"Value {seconds} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and "
        "<= 900."
    )


# Receiving


@pytest.mark.parametrize("limit", [0, 11])
def test_a_receive_takes_one_to_ten(sqs: Sqs, limit: int) -> None:
    code, message = error_of(sqs.client.receive_message, QueueUrl=sqs.queue(), MaxNumberOfMessages=limit)
    assert code == "InvalidParameterValue"
    assert message == (
        f"Value {limit} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if "
        "provided."
    )


def test_a_receive_takes_one_unless_told_otherwise(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "a", "b")
    assert len(sqs.client.receive_message(QueueUrl=url)["Messages"]) == 1


@pytest.mark.parametrize("seconds", [-1, 21])
def test_a_receive_waits_at_most_20_seconds(sqs: Sqs, seconds: int) -> None:
    code, message = error_of(sqs.client.receive_message, QueueUrl=sqs.queue(), WaitTimeSeconds=seconds)
    assert code == "InvalidParameterValue"
    assert message == (
        f"Value {seconds} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if "
        "provided."
    )


def test_a_long_poll_ends_when_a_message_arrives(sqs: Sqs) -> None:
    url = sqs.queue(ReceiveMessageWaitTimeSeconds=20)
    received: list[str] = []

    def poll() -> None:
        received.extend(message["Body"] for message in sqs.client.receive_message(QueueUrl=url)["Messages"])

    poller = threading.Thread(target=poll)
    poller.start()
    sqs.send(url, "x")
    poller.join(timeout=15)
    assert received == ["x"]


# Receipt handles


def test_deleting_removes_for_good_and_may_be_repeated(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    sqs.delete(url, message)
    sqs.delete(url, message)
    assert sqs.bodies(url) == []


def test_a_message_can_be_deleted_after_its_timeout_ended(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x", "y")
    (message,) = sqs.receive(url, 1)
    sqs.delete(url, message)
    assert len(sqs.bodies(url, wait=1)) == 1


def test_an_old_receipt_handle_succeeds_and_deletes_nothing(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout=0)
    sqs.send(url, "x")
    (old,) = sqs.receive(url)
    (_,) = sqs.receive(url, wait=2)
    sqs.delete(url, old)
    assert sqs.bodies(url, wait=2) == ["x"]


def test_text_that_is_no_receipt_handle_is_refused(sqs: Sqs) -> None:
    url = sqs.queue()
    code, _ = error_of(sqs.client.delete_message, QueueUrl=url, ReceiptHandle="garbage")
    assert code == "ReceiptHandleIsInvalid"
    code, _ = error_of(
        sqs.client.change_message_visibility, QueueUrl=url, ReceiptHandle="garbage", VisibilityTimeout=1
    )
    assert code == "ReceiptHandleIsInvalid"


def test_a_handle_of_another_queue_is_refused(sqs: Sqs) -> None:
    url, other = sqs.queue(), sqs.queue()
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    assert (
        error_of(sqs.client.delete_message, QueueUrl=other, ReceiptHandle=message["ReceiptHandle"])[0]
        == "ReceiptHandleIsInvalid"
    )


def test_a_deleted_messages_timeout_cannot_be_changed(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    sqs.delete(url, message)
    code, text = error_of(
        sqs.client.change_message_visibility,
        QueueUrl=url,
        ReceiptHandle=message["ReceiptHandle"],
        VisibilityTimeout=1,
    )
    assert code == "InvalidParameterValue"
    assert text.endswith("Reason: Message does not exist or is not available for visibility timeout change.")


# Batches


def entries(count: int, **more: Any) -> list[Any]:
    return [{"Id": str(i), "MessageBody": f"body {i}", **more} for i in range(count)]


def test_a_batch_of_ten_is_sent_received_and_deleted(sqs: Sqs) -> None:
    url = sqs.queue()
    reply = sqs.client.send_message_batch(QueueUrl=url, Entries=entries(10))
    assert [entry["Id"] for entry in reply["Successful"]] == [str(i) for i in range(10)]
    assert not reply.get("Failed")
    messages = sqs.receive(url)
    assert len(messages) == 10
    handles: Any = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
    deleted = sqs.client.delete_message_batch(QueueUrl=url, Entries=handles)
    assert len(deleted["Successful"]) == 10
    assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "0"


@pytest.mark.parametrize("action", ["send", "delete", "change"])
def test_batches_outside_the_rules_are_refused_as_a_whole(sqs: Sqs, action: str) -> None:
    url = sqs.queue()
    call: Any = {
        "send": sqs.client.send_message_batch,
        "delete": sqs.client.delete_message_batch,
        "change": sqs.client.change_message_visibility_batch,
    }[action]
    more: Any = {
        "send": {"MessageBody": "x"},
        "delete": {"ReceiptHandle": "x"},
        "change": {"ReceiptHandle": "x", "VisibilityTimeout": 1},
    }[action]
    prefix = "AWS.SimpleQueueService."

    def refusal(*ids: str) -> tuple[str, str]:
        return error_of(call, QueueUrl=url, Entries=[{"Id": id, **more} for id in ids])

    assert refusal()[0] == prefix + "EmptyBatchRequest"
    assert refusal(*map(str, range(11))) == (
        prefix + "TooManyEntriesInBatchRequest",
        "Maximum number of entries per request are 10. You have sent 11.",
    )
    assert refusal("a", "b", "a") == (prefix + "BatchEntryIdsNotDistinct", "Id a repeated.")
    assert refusal("a:b")[0] == prefix + "InvalidBatchEntryId"
    assert refusal("x" * 81)[0] == prefix + "InvalidBatchEntryId"


def test_a_batch_takes_one_mebibyte_in_all(sqs: Sqs) -> None:
    url = sqs.queue()
    half = "x" * 524_288
    reply = sqs.client.send_message_batch(
        QueueUrl=url, Entries=[{"Id": "a", "MessageBody": half}, {"Id": "b", "MessageBody": half}]
    )
    assert len(reply["Successful"]) == 2
    code, message = error_of(
        sqs.client.send_message_batch,
        QueueUrl=url,
        Entries=[{"Id": "a", "MessageBody": half}, {"Id": "b", "MessageBody": half + "x"}],
    )
    assert code == "AWS.SimpleQueueService.BatchRequestTooLong"
    assert message == "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."


def test_one_bad_entry_fails_alone(sqs: Sqs) -> None:
    url = sqs.queue()
    reply = sqs.client.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "good", "MessageBody": "x"},
            {"Id": "bad", "MessageBody": "\0"},
            {"Id": "late", "MessageBody": "x", "DelaySeconds": 901},
        ],
    )
    assert [entry["Id"] for entry in reply["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in reply["Failed"]] == [
        ("bad", "InvalidMessageContents", True),
        ("late", "InvalidParameterValue", True),
    ]
    assert sqs.bodies(url) == ["x"]


def test_one_bad_handle_in_a_batch_fails_alone(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x")
    (message,) = sqs.receive(url)
    both: Any = [
        {"Id": "good", "ReceiptHandle": message["ReceiptHandle"]},
        {"Id": "bad", "ReceiptHandle": "x"},
    ]
    changed = sqs.client.change_message_visibility_batch(
        QueueUrl=url, Entries=[entry | {"VisibilityTimeout": 60} for entry in both]
    )
    deleted: Any = sqs.client.delete_message_batch(QueueUrl=url, Entries=both)
    for reply in (changed, deleted):
        assert [entry["Id"] for entry in reply["Successful"]] == ["good"]
        assert [(entry["Id"], entry["Code"]) for entry in reply["Failed"]] == [
            ("bad", "ReceiptHandleIsInvalid")
        ]


# Dead letters


def with_dead_letters(sqs: Sqs, most: int, make: str = "queue") -> tuple[str, str]:
    dead = getattr(sqs, make)()
    policy = json.dumps({"deadLetterTargetArn": sqs.arn(dead), "maxReceiveCount": most})
    return getattr(sqs, make)(VisibilityTimeout=0, RedrivePolicy=policy), dead


def test_a_message_received_too_often_becomes_a_dead_letter(sqs: Sqs) -> None:
    url, dead = with_dead_letters(sqs, 2)
    (sent,) = sqs.send(url, "poison", MessageAttributes=ATTRIBUTES)
    assert sqs.bodies(url) == ["poison"]
    assert sqs.bodies(url, wait=2) == ["poison"]
    assert sqs.bodies(url, wait=1) == []
    (message,) = sqs.receive(dead, MessageAttributeNames=["All"])
    assert message["MessageId"] == sent["MessageId"]
    assert set(message["MessageAttributes"]) == set(ATTRIBUTES)


def test_a_dead_letter_says_where_it_came_from(sqs: Sqs) -> None:
    url, dead = with_dead_letters(sqs, 1)
    sqs.send(url, "poison")
    assert sqs.bodies(url) == ["poison"]
    assert sqs.bodies(url, wait=1) == []
    (message,) = sqs.receive(dead, AttributeNames=["All"])
    assert message["Attributes"]["DeadLetterQueueSourceArn"] == sqs.arn(url)
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"


def test_dead_letter_sources_are_listed(sqs: Sqs) -> None:
    url, dead = with_dead_letters(sqs, 1)
    assert sqs.client.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    assert sqs.client.list_dead_letter_source_queues(QueueUrl=url).get("queueUrls") == []


def test_a_dead_letter_queue_must_exist(sqs: Sqs) -> None:
    arn = sqs.arn(sqs.queue())
    policy = json.dumps({"deadLetterTargetArn": arn + "-missing", "maxReceiveCount": 1})
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": policy})
    assert code == "AWS.SimpleQueueService.NonExistentQueue"


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "nonsense", '{"maxReceiveCount": 1}'],
    ids=["empty", "no object", "no JSON", "without target"],
)
def test_redrive_policies_that_lack_something_are_refused(sqs: Sqs, text: str) -> None:
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": text})
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize("count", [0, 1001, "many"])
def test_a_dead_letter_comes_after_1_to_1000_receives(sqs: Sqs, count: object) -> None:
    policy = json.dumps({"deadLetterTargetArn": sqs.arn(sqs.queue()), "maxReceiveCount": count})
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": policy})
    assert code == "InvalidParameterValue"


def test_a_dead_letter_queue_is_of_the_same_type(sqs: Sqs) -> None:
    policy = json.dumps({"deadLetterTargetArn": sqs.arn(sqs.fifo()), "maxReceiveCount": 1})
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": policy})
    assert code == "InvalidParameterValue"


def test_a_queue_may_refuse_to_be_a_dead_letter_queue(sqs: Sqs) -> None:
    dead = sqs.queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    policy = json.dumps({"deadLetterTargetArn": sqs.arn(dead), "maxReceiveCount": 1})
    code, _ = error_of(sqs.client.create_queue, QueueName=fresh_name(), Attributes={"RedrivePolicy": policy})
    assert code == "InvalidParameterValue"


# FIFO


def test_a_group_keeps_its_order(sqs: Sqs) -> None:
    url = sqs.fifo()
    sqs.send_fifo(url, "g", *"abcde")
    assert sqs.bodies(url, 3) == ["a", "b", "c"]


def test_a_group_is_locked_while_one_of_its_messages_is_in_flight(sqs: Sqs) -> None:
    url = sqs.fifo()
    sqs.send_fifo(url, "g", "a", "b")
    sqs.send_fifo(url, "h", "c")
    (first,) = sqs.receive(url, 1)
    assert sqs.bodies(url) == ["c"]
    sqs.delete(url, first)
    assert sqs.bodies(url) == ["b"]


def test_what_comes_back_keeps_its_place(sqs: Sqs) -> None:
    url = sqs.fifo(VisibilityTimeout=1)
    sqs.send_fifo(url, "g", *"abc")
    assert sqs.bodies(url, 2) == ["a", "b"]
    assert sqs.bodies(url, wait=5) == ["a", "b", "c"]


def test_one_message_that_comes_back_is_locked_by_those_ahead_of_it_alone(sqs: Sqs) -> None:
    url = sqs.fifo()
    sqs.send_fifo(url, "g", *"abc")
    first, second = sqs.receive(url, 2)
    sqs.client.change_message_visibility(
        QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0
    )
    (again,) = sqs.receive(url)
    assert again["Body"] == "a"
    sqs.delete(url, again)
    assert sqs.bodies(url) == []
    sqs.delete(url, second)
    assert sqs.bodies(url) == ["c"]


def test_sequence_numbers_grow(sqs: Sqs) -> None:
    url = sqs.fifo()
    sent = sqs.send_fifo(url, "g", *"abcdefghij")
    numbers = [int(reply["SequenceNumber"]) for reply in sent]
    assert numbers == sorted(set(numbers))
    assert all(len(reply["SequenceNumber"]) == 20 for reply in sent)
    received = sqs.receive(url, AttributeNames=["SequenceNumber"])
    assert [int(message["Attributes"]["SequenceNumber"]) for message in received] == numbers


def test_fifo_system_attributes_come_back(sqs: Sqs) -> None:
    url = sqs.fifo()
    sqs.client.send_message(
        QueueUrl=url, MessageBody="x", MessageGroupId="group-1", MessageDeduplicationId="dedup-1"
    )
    (message,) = sqs.receive(url, AttributeNames=["All"])
    assert message["Attributes"]["MessageGroupId"] == "group-1"
    assert message["Attributes"]["MessageDeduplicationId"] == "dedup-1"


def test_a_duplicate_is_accepted_and_not_delivered(sqs: Sqs) -> None:
    url = sqs.fifo()
    for body in ("first", "second"):
        sqs.client.send_message(
            QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId="same"
        )
    assert sqs.bodies(url) == ["first"]


def test_a_duplicate_of_a_deleted_message_is_not_delivered(sqs: Sqs) -> None:
    url = sqs.fifo()
    for _ in range(2):
        sqs.client.send_message(
            QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="same"
        )
        for message in sqs.receive(url):
            sqs.delete(url, message)
    sqs.client.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="same")
    assert sqs.bodies(url) == []


def test_a_duplicate_is_told_of_the_first_one(sqs: Sqs) -> None:
    url = sqs.fifo(ContentBasedDeduplication="true")
    first, second = (
        sqs.client.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g") for _ in range(2)
    )
    assert second["MessageId"] == first["MessageId"]
    assert second["SequenceNumber"] == first["SequenceNumber"]


def test_content_based_deduplication_drops_equal_bodies(sqs: Sqs) -> None:
    url = sqs.fifo(ContentBasedDeduplication="true")
    for body in ("a", "b", "a"):
        sqs.client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body)
    assert sorted(sqs.bodies(url)) == ["a", "b"]


def test_an_id_of_its_own_overrides_content_based_deduplication(sqs: Sqs) -> None:
    url = sqs.fifo(ContentBasedDeduplication="true")
    for dedup_id in ("1", "2"):
        sqs.client.send_message(
            QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId=dedup_id
        )
    assert sqs.bodies(url) == ["x", "x"]


@pytest.mark.parametrize(("scope", "count"), [("queue", 1), ("messageGroup", 2)])
def test_deduplication_may_be_per_group(sqs: Sqs, scope: str, count: int) -> None:
    url = sqs.fifo(DeduplicationScope=scope)
    for group in ("g", "h"):
        sqs.client.send_message(
            QueueUrl=url, MessageBody="x", MessageGroupId=group, MessageDeduplicationId="same"
        )
    assert len(sqs.bodies(url)) == count


def test_a_fifo_message_needs_a_group(sqs: Sqs) -> None:
    assert error_of(
        sqs.client.send_message, QueueUrl=sqs.fifo(), MessageBody="x", MessageDeduplicationId="1"
    ) == ("MissingParameter", "The request must contain the parameter MessageGroupId.")


def test_a_batch_without_groups_fails_as_a_whole(sqs: Sqs) -> None:
    assert error_of(
        sqs.client.send_message_batch,
        QueueUrl=sqs.fifo(),
        Entries=entries(2, MessageDeduplicationId="1"),
    ) == ("InvalidParameterValue", "The request must contain the parameter MessageGroupId.")


def test_a_fifo_message_needs_something_to_deduplicate_by(sqs: Sqs) -> None:
    assert error_of(sqs.client.send_message, QueueUrl=sqs.fifo(), MessageBody="x", MessageGroupId="g") == (
        "InvalidParameterValue",
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided "
        "explicitly",
    )


def test_a_fifo_message_has_no_delay_of_its_own(sqs: Sqs) -> None:
    assert error_of(
        sqs.client.send_message,
        QueueUrl=sqs.fifo(ContentBasedDeduplication="true"),
        MessageBody="x",
        MessageGroupId="g",
        DelaySeconds=2,
    ) == (
        "InvalidParameterValue",
        "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not "
        "valid for this queue type.",
    )


def test_a_standard_queue_takes_groups_but_no_deduplication_ids(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x", "y", MessageGroupId="tenant")
    assert sqs.bodies(url, 1) == ["x"]
    assert sqs.bodies(url, 1) == ["y"]
    code, _ = error_of(sqs.client.send_message, QueueUrl=url, MessageBody="x", MessageDeduplicationId="1")
    assert code == "InvalidParameterValue"


@pytest.mark.parametrize("id", ["a b", "ä", "x" * 129])
def test_group_ids_outside_the_syntax_are_refused(sqs: Sqs, id: str) -> None:
    code, _ = error_of(
        sqs.client.send_message,
        QueueUrl=sqs.fifo(),
        MessageBody="x",
        MessageGroupId=id,
        MessageDeduplicationId="1",
    )
    assert code == "InvalidParameterValue"


def test_an_expired_handle_of_a_fifo_queue_is_refused(sqs: Sqs) -> None:
    url = sqs.fifo(VisibilityTimeout=0)
    sqs.send_fifo(url, "g", "x")
    (message,) = sqs.receive(url)
    (_,) = sqs.receive(url, wait=2, VisibilityTimeout=60)
    handle = message["ReceiptHandle"]
    assert error_of(sqs.client.delete_message, QueueUrl=url, ReceiptHandle=handle) == (
        "InvalidParameterValue",
        f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
    )


def test_a_repeated_receive_attempt_gets_the_same_messages(sqs: Sqs) -> None:
    url = sqs.fifo()
    sqs.send_fifo(url, "g", "a", "b")
    first = sqs.receive(url, 1, ReceiveRequestAttemptId="attempt")
    assert sqs.receive(url, 1) == []
    assert sqs.receive(url, 1, ReceiveRequestAttemptId="attempt") == first
    sqs.delete(url, first[0])
    assert sqs.bodies(url, 1, ReceiveRequestAttemptId="attempt") == ["b"]


def test_dead_letters_of_a_fifo_queue_let_the_group_go_on(sqs: Sqs) -> None:
    url, dead = with_dead_letters(sqs, 1, "fifo")
    sqs.send_fifo(url, "g", "poison", "good")
    assert sqs.bodies(url, 1) == ["poison"]
    assert sqs.bodies(url, 1, wait=2) == ["good"]
    assert sqs.bodies(dead) == ["poison"]


def test_high_throughput_needs_the_matching_deduplication_scope(sqs: Sqs) -> None:
    assert sqs.fifo(DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    code, _ = error_of(
        sqs.client.create_queue,
        QueueName=fresh_name() + ".fifo",
        Attributes={"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"},
    )
    assert code == "InvalidAttributeValue"


def test_a_queues_type_cannot_be_changed(sqs: Sqs) -> None:
    fifo, standard = sqs.fifo(), sqs.queue()
    assert error_of(sqs.client.set_queue_attributes, QueueUrl=fifo, Attributes={"FifoQueue": "false"}) == (
        "InvalidAttributeValue",
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.",
    )
    assert error_of(sqs.client.set_queue_attributes, QueueUrl=standard, Attributes={"FifoQueue": "true"}) == (
        "InvalidAttributeName",
        "Unknown Attribute FifoQueue.",
    )


def test_a_receipt_handle_survives_base64(local: Sqs) -> None:
    url = local.queue()
    for garbage in (b64encode(b"\xff:\0:1").decode(), b64encode(b"a:1:1").decode(), "", "é" * 10):
        code, _ = error_of(local.client.delete_message, QueueUrl=url, ReceiptHandle=garbage)
        assert code == "ReceiptHandleIsInvalid"
