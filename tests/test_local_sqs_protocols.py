"""Every action over both protocols: the same answers and the same errors, in each one's own form."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import LocalSqs, fresh_name

local_server = fixtures.local_server

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
Request = dict[str, Any]
# status, code, message; for a success what the reply says
Answer = tuple[int, str, str]

# how the older service model calls the members of each list and map
LISTS = {
    "AWSAccountIds": "AWSAccountId",
    "Actions": "ActionName",
    "AttributeNames": "AttributeName",
    "MessageAttributeNames": "MessageAttributeName",
    "MessageSystemAttributeNames": "MessageSystemAttributeName",
    "TagKeys": "TagKey",
}
MAPS = {
    "Attributes": ("Attribute", "Name", "Value"),
    "MessageAttributes": ("MessageAttribute", "Name", "Value"),
    "MessageSystemAttributes": ("MessageSystemAttribute", "Name", "Value"),
    "Tags": ("Tag", "Key", "Value"),
    "tags": ("Tag", "Key", "Value"),
}


def form_of(action: str, request: Request, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a form, as an SDK would have made them."""
    for name, value in request.items():
        if name in MAPS and isinstance(value, dict):
            entry, key, content = MAPS[name]
            for number, (found, held) in enumerate(value.items(), 1):
                yield f"{prefix}{entry}.{number}.{key}", found
                yield from form_of(action, {content: held}, f"{prefix}{entry}.{number}.")
        elif isinstance(value, dict):
            yield from form_of(action, value, f"{prefix}{name}.")
        elif isinstance(value, list):
            entry = LISTS.get(name, f"{action}RequestEntry")
            if not value:
                yield f"{prefix}{name}", ""
            for number, each in enumerate(value, 1):
                yield from form_of(action, {f"{entry}.{number}": each}, prefix)
        else:
            yield f"{prefix}{name}", str(value)


class Twins:
    """One connection a protocol, and a queue for each that goes through the same."""

    def __init__(self, server: LocalSqs) -> None:
        self.server = server
        self.connections = [http.client.HTTPConnection(server.host, server.port, timeout=30) for _ in "ab"]
        self.names = ["json" + fresh_name(), "form" + fresh_name()]

    def ask(self, action: str, request: Request) -> tuple[Answer, Answer]:
        """Ask the same over both protocols, each of its own queue."""
        return self._json(action, self._own(request, 0)), self._form(action, self._own(request, 1))

    def _own(self, request: Request, which: int) -> Request:
        text = json.dumps(request).replace("NAME", self.names[which]).replace("GONE", f"x{self.names[which]}")
        own: Request = json.loads(text.replace("URL", f"{self.server.url}/000000000000"))
        return own

    def _json(self, action: str, request: Request) -> Answer:
        headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
        status, answered, body = self._send(0, json.dumps(request).encode(), headers)
        reply: Request = json.loads(body)
        if status == 200:
            return status, "", str(sorted(self._plain(0, leaf) for leaf in leaves(reply)))
        code, _, fault = (answered["x-amzn-query-error"] or "").rpartition(";")
        assert fault == ("Sender" if status < 500 else "Receiver")
        return status, code, self._plain(0, reply["message"])

    def _form(self, action: str, request: Request) -> Answer:
        fields = [("Action", action), ("Version", "2012-11-05"), *form_of(action, request)]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _, body = self._send(1, urlencode(fields).encode(), headers)
        tree = ElementTree.fromstring(body)
        if status == 200:
            assert tree.tag == f"{NAMESPACE}{action}Response"
            found = [leaf for part in tree if not part.tag.endswith("Metadata") for leaf in texts(part)]
            return status, "", str(sorted(self._plain(1, leaf) for leaf in found))
        (error,) = tree.iter(NAMESPACE + "Error")
        assert error.findtext(NAMESPACE + "Type") == ("Sender" if status < 500 else "Receiver")
        message = (error.findtext(NAMESPACE + "Message") or "").replace(" for this wsdl version", "")
        return status, error.findtext(NAMESPACE + "Code") or "", self._plain(1, message)

    def _send(self, which: int, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
        self.connections[which].request("POST", "/", body, headers)
        reply = self.connections[which].getresponse()
        return reply.status, reply.headers, reply.read()

    def _plain(self, which: int, said: str) -> str:
        """Return what was said without what differs from queue to queue and from second to second."""
        text = re.sub(r"http://[^\s']+/", "", said.replace(self.names[which], "NAME"))
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)
        text = re.sub(r"\b1[0-9]{9}([0-9]{3})?\b", "TIME", text)
        # XML cannot hold every character that an error quotes
        return re.sub(r"[A-Za-z0-9+/=]{16,}", "HANDLE", text).replace("\x01", "\ufffd")


def leaves(value: Any) -> Iterator[str]:
    """Yield every value of a reply, and every key of its maps that XML has as a value."""
    if isinstance(value, dict):
        for name, inside in value.items():
            if name in MAPS:
                yield from inside
            yield from leaves(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from leaves(inside)
    else:
        yield str(value).lower() if isinstance(value, bool) else str(value)


def texts(tree: ElementTree.Element) -> Iterator[str]:
    if len(tree):
        for part in tree:
            yield from texts(part)
    elif not tree.tag.endswith("Result"):
        yield tree.text or ""


@pytest.fixture
def twins(local_server: LocalSqs) -> Iterator[Twins]:
    made = Twins(local_server)
    yield made
    for connection in made.connections:
        connection.close()


STRING = {"DataType": "String", "StringValue": "value & <more>"}
BINARY = {"DataType": "Binary", "BinaryValue": "AAE="}
MINE = {"QueueUrl": "URL/NAME"}
ARN = "arn:aws:sqs:us-east-1:000000000000:NAME"
# a request of each action that is right, and in this order works
RIGHT: list[tuple[str, Request]] = [
    ("CreateQueue", {"QueueName": "NAME", "Attributes": {"VisibilityTimeout": "0"}, "tags": {"a": "b"}}),
    ("GetQueueUrl", {"QueueName": "NAME", "QueueOwnerAWSAccountId": "000000000000"}),
    ("ListQueues", {"QueueNamePrefix": "NAME", "MaxResults": 2}),
    ("SetQueueAttributes", {**MINE, "Attributes": {"MaximumMessageSize": "2048"}}),
    ("GetQueueAttributes", {**MINE, "AttributeNames": ["All"]}),
    ("TagQueue", {**MINE, "Tags": {"c": "d", "e": ""}}),
    ("ListQueueTags", MINE),
    ("UntagQueue", {**MINE, "TagKeys": ["a", "nothing"]}),
    (
        "AddPermission",
        {**MINE, "Label": "l", "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage", "*"]},
    ),
    ("RemovePermission", {**MINE, "Label": "l"}),
    (
        "SendMessage",
        {
            **MINE,
            "MessageBody": "body \t\r\n é < & \" ' > 😀",
            "DelaySeconds": 0,
            "MessageGroupId": "group",
            "MessageAttributes": {"a.b": STRING, "c": BINARY},
            "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}},
        },
    ),
    (
        "ReceiveMessage",
        {
            **MINE,
            "MaxNumberOfMessages": 10,
            "VisibilityTimeout": 0,
            "WaitTimeSeconds": 0,
            "AttributeNames": ["SenderId"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["a.*", "c"],
        },
    ),
    (
        "SendMessageBatch",
        {
            **MINE,
            "Entries": [
                {"Id": "one", "MessageBody": "1", "MessageAttributes": {"a": STRING}},
                {"Id": "two", "MessageBody": "2", "DelaySeconds": 901},
            ],
        },
    ),
    ("DeleteMessage", {**MINE, "ReceiptHandle": "no"}),
    ("DeleteMessageBatch", {**MINE, "Entries": [{"Id": "a", "ReceiptHandle": "no"}]}),
    ("ChangeMessageVisibility", {**MINE, "ReceiptHandle": "no", "VisibilityTimeout": 1}),
    (
        "ChangeMessageVisibilityBatch",
        {**MINE, "Entries": [{"Id": "a", "ReceiptHandle": "no", "VisibilityTimeout": 1}]},
    ),
    ("ListDeadLetterSourceQueues", {**MINE, "MaxResults": 2}),
    (
        "StartMessageMoveTask",
        {"SourceArn": ARN, "DestinationArn": ARN, "MaxNumberOfMessagesPerSecond": 5},
    ),
    ("ListMessageMoveTasks", {"SourceArn": ARN, "MaxResults": 5}),
    ("CancelMessageMoveTask", {"TaskHandle": "no"}),
    ("PurgeQueue", MINE),
    ("PurgeQueue", MINE),
    ("DeleteQueue", MINE),
    ("DeleteQueue", MINE),
]
OUT_OF_RANGE = [-1, 10**6]
ODD = ["", "GONE", "URL/GONE", "arn:aws:sqs:us-east-1:000000000000:GONE", "a b", "ä\x01", "x" * 2100]


def wrong_ones(request: Request) -> Iterator[Request]:
    """Yield the request with one parameter of it gone, or of another value."""
    for name, value in request.items():
        yield {other: held for other, held in request.items() if other != name}
        if isinstance(value, str):
            yield from ({**request, name: odd} for odd in ODD)
        elif isinstance(value, int):
            yield from ({**request, name: number} for number in OUT_OF_RANGE)
        elif isinstance(value, dict):
            yield from ({**request, name: {odd: held}} for odd in ODD[1:] for held in value.values())
            yield from (
                {**request, name: {key: odd}}
                for key, held in value.items()
                if type(held) is str
                for odd in ODD
            )
            yield {**request, name: {f"{key}{n}": v for key, v in value.items() for n in range(51)}}
        elif value and isinstance(value[0], dict):
            yield {**request, name: []}
            yield {**request, name: value * 2}
            yield {**request, name: [value[0] | {"Id": str(n)} for n in range(11)]}
            for entry in wrong_ones(value[0]):
                yield {**request, name: [entry, *value[1:]]}
        elif isinstance(value, list):
            yield {**request, name: []}
            yield from ({**request, name: [odd]} for odd in ODD)


def test_each_action_is_there_once(local_server: LocalSqs) -> None:
    import botocore.loaders

    model: Request = botocore.loaders.Loader().load_service_model("sqs", "service-2")
    assert {action for action, _ in RIGHT} == set(model["operations"])


def test_both_protocols_say_the_same(twins: Twins) -> None:
    for action, request in RIGHT:
        as_json, as_form = twins.ask(action, request)
        assert as_json == as_form, action


@pytest.mark.parametrize("index", range(len(RIGHT)), ids=[action for action, _ in RIGHT])
def test_both_protocols_refuse_the_same(twins: Twins, index: int) -> None:
    action, request = RIGHT[index]
    twins.ask("CreateQueue", {"QueueName": "NAME"})
    refused = 0
    for wrong in wrong_ones(request):
        # a form cannot tell an empty list from none
        if "Entries" in request and "Entries" not in wrong:
            continue
        # without a prefix all queues are listed, those of other tests too
        if action != "ListQueues" or wrong.get("QueueNamePrefix"):
            as_json, as_form = twins.ask(action, wrong)
            assert as_json == as_form, (action, str(wrong)[:300])
            refused += as_json[0] != 200
    assert refused or action in ("ListQueues", "ListQueueTags")
