"""Cases: sending, receiving, batches."""

import time
from hashlib import md5
from typing import Any

from benchmarks.sqs_cases.asking import BY_CONTENT, Asked, case, refused


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


@case("SendMessageRequest.QueueUrl", "Queue URLs and names are case-sensitive.")
def a_queue_is_found_by_the_end_of_its_url_alone(sqs: Asked) -> None:
    url = sqs.queue()
    refused(sqs.send, "NonExistentQueue", url=url.rpartition("/")[0] + "/" + url.rpartition("/")[2].upper())


@case("SendMessage", "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF")
def every_character_of_the_set_comes_back(sqs: Asked) -> None:
    url, body = sqs.queue(), "\t\n\r \ud7ff\ue000\ufffd\U00010000\U0010ffff"
    sqs.send(url, body)
    assert sqs.bodies(url) == [body]


@case("SendMessageRequest.DelaySeconds", "If you don't specify a value, the default value for the queue")
def without_a_delay_the_queues_holds(sqs: Asked) -> None:
    url = sqs.queue(DelaySeconds=600)
    sqs.send(url, "late")
    sqs.send(url, "now", DelaySeconds=0)
    assert sqs.bodies(url) == ["now"]


@case("SendMessageRequest.MessageSystemAttributes", "Its type must be String")
def a_trace_header_is_text(sqs: Asked) -> None:
    url = sqs.queue()
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a9942"}}
    sqs.send(url, MessageSystemAttributes=header)
    (message,) = sqs.receive(url, AttributeNames=["AWSTraceHeader"])
    assert message["Attributes"] == {"AWSTraceHeader": header["AWSTraceHeader"]["StringValue"]}
    binary = {"AWSTraceHeader": {"DataType": "Binary", "BinaryValue": b"x"}}
    refused(sqs.send, url=url, MessageSystemAttributes=binary)
    refused(sqs.send, url=url, MessageSystemAttributes={"Other": header["AWSTraceHeader"]})


@case(
    "SendMessageRequest.MessageSystemAttributes",
    "The size of a message system attribute doesn't count towards the total size of a message.",
)
def a_trace_header_has_no_weight(sqs: Asked) -> None:
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a9942"}}
    sqs.send(sqs.queue(MaximumMessageSize=1024), "x" * 1024, MessageSystemAttributes=header)


@case("MessageAttributeValue.DataType", "For the Number data type, you must use StringValue .")
def a_number_is_a_number(sqs: Asked) -> None:
    url = sqs.queue()
    for text in ("-1.5", "0", "1e3"):
        sqs.send(url, MessageAttributes={"n": {"DataType": "Number.custom", "StringValue": text}})
    for text in ("one", "", "1,5"):
        refused(sqs.send, url=url, MessageAttributes={"n": {"DataType": "Number", "StringValue": text}})


@case("MessageAttributeValue.DataType", "the following logical data types: String , Number , and Binary .")
def other_types_are_refused(sqs: Asked) -> None:
    attribute = {"DataType": "Text", "StringValue": "x"}
    refused(sqs.send, url=sqs.queue(), MessageAttributes={"a": attribute})


@case("MessageAttributeValue.StringListValues", "Not implemented. Reserved for future use.")
def lists_are_no_values(sqs: Asked) -> None:
    attribute = {"DataType": "String", "StringListValues": ["x"]}
    refused(sqs.send, url=sqs.queue(), MessageAttributes={"a": attribute})


@case("ReceiveMessageRequest.MessageAttributeNames", "The name must not start or end with a period ( . ),")
def names_of_message_attributes_are_checked(sqs: Asked) -> None:
    url, value = sqs.queue(), {"DataType": "String", "StringValue": "x"}
    sqs.send(url, MessageAttributes={"a-b_c.D": value, "x" * 256: value})
    for name in (".a", "a.", "a..b", "aws.a", "AMAZON.a", "a b", "x" * 257):
        refused(sqs.send, url=url, MessageAttributes={name: value})


@case("ReceiveMessageRequest.MessageAttributeNames", "all message attributes starting with a prefix")
def message_attributes_are_asked_for_by_prefix(sqs: Asked) -> None:
    url, value = sqs.queue(), {"DataType": "String", "StringValue": "x"}
    sqs.send(url, MessageAttributes={"bar.a": value, "bar.b": value, "foo": value})
    (message,) = sqs.receive(url, MessageAttributeNames=["bar.*"])
    assert set(message["MessageAttributes"]) == {"bar.a", "bar.b"}


@case("ReceiveMessageRequest.WaitTimeSeconds", "the call does not return a message list")
def nothing_is_no_list(sqs: Asked) -> None:
    assert "Messages" not in sqs.client.receive_message(QueueUrl=sqs.queue())


@case("CreateQueueRequest.Attributes", "for which a ReceiveMessage action waits for a message to arrive")
def a_wait_of_0_comes_before_the_queues(sqs: Asked) -> None:
    url = sqs.queue(ReceiveMessageWaitTimeSeconds=20)
    started = time.monotonic()
    assert sqs.bodies(url, WaitTimeSeconds=0) == []
    assert time.monotonic() - started < 10
    sqs.send(url, DelaySeconds=1)
    assert sqs.bodies(url) == ["x"]


@case("Message.Attributes", "are each returned as an integer representing the epoch time in milliseconds")
def times_of_a_message_are_in_milliseconds(sqs: Asked) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url, AttributeNames=["All"])
    for name in ("ApproximateFirstReceiveTimestamp", "SentTimestamp"):
        assert len(str(int(message["Attributes"][name]))) == 13


@case("SendMessageBatch", "the sum of the individual lengths of all of the batched messages) are both 1 MiB")
def a_batch_has_at_most_1_mib_in_all(sqs: Asked) -> None:
    url = sqs.queue()
    entries = [{"Id": id, "MessageBody": "x" * 524_288} for id in "ab"]
    assert len(sqs.client.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 2
    entries.append({"Id": "c", "MessageBody": "x"})
    refused(sqs.client.send_message_batch, "BatchRequestTooLong", QueueUrl=url, Entries=entries)


@case("EmptyBatchRequest", "The batch request doesn't contain any entries.")
def a_batch_has_an_entry(sqs: Asked) -> None:
    refused(sqs.client.send_message_batch, "EmptyBatchRequest", QueueUrl=sqs.queue(), Entries=[])


@case("SendMessageBatchRequestEntry.Id", "This identifier can have up to 80 characters.")
def ids_of_a_batch_are_checked(sqs: Asked) -> None:
    url = sqs.queue()

    def send(id: str) -> Any:
        return sqs.client.send_message_batch(QueueUrl=url, Entries=[{"Id": id, "MessageBody": "x"}])

    assert send("aZ_-" + "x" * 76)["Successful"]
    for id in ("x" * 81, "a b", "a.b", ""):
        refused(send, "InvalidBatchEntryId", id=id)
