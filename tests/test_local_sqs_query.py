"""The older, form-encoded protocol of SQS: by hand as a shell would speak it, and through old SDKs."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import requests

from queuebench.local_sqs import query
from tests.local_sqs_fixtures import LocalSqs, running

NAMESPACE = "{http://queue.amazonaws.com/doc/2012-11-05/}"
OLD = Path(__file__).with_name("requirements-old-clients.txt")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalSqs]:
    with running("--latency", "0") as started:
        yield started


def ask(server: LocalSqs, path: str = "/", **fields: str) -> tuple[int, ElementTree.Element]:
    answer = requests.post(server.url + path, data=fields, timeout=30)
    assert answer.headers["content-type"] == "text/xml"
    return answer.status_code, ElementTree.fromstring(answer.content)


def texts(tree: ElementTree.Element, name: str) -> list[str | None]:
    return [found.text for found in tree.iter(NAMESPACE + name)]


def make(server: LocalSqs, name: str, **fields: str) -> str:
    status, tree = ask(server, Action="CreateQueue", QueueName=name, **fields)
    assert status == 200
    (url,) = texts(tree, "QueueUrl")
    assert url is not None
    return url


def test_a_message_goes_in_and_out_with_its_attributes_and_every_character(server: LocalSqs) -> None:
    url = make(server, "way", **{"Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "60"})
    body = 'a & <b> "é" \'\r\n\t😀]]>'
    status, tree = ask(
        server,
        Action="SendMessage",
        QueueUrl=url,
        MessageBody=body,
        **{
            "MessageAttribute.2.Name": "n",
            "MessageAttribute.2.Value.DataType": "Number",
            "MessageAttribute.2.Value.StringValue": "5",
            "MessageAttribute.1.Name": "b",
            "MessageAttribute.1.Value.DataType": "Binary",
            "MessageAttribute.1.Value.BinaryValue": "AAE=",
        },
    )
    assert status == 200
    assert tree.tag == NAMESPACE + "SendMessageResponse"
    (attributes_md5,) = texts(tree, "MD5OfMessageAttributes")
    status, tree = ask(
        server,
        Action="ReceiveMessage",
        QueueUrl=url,
        **{"AttributeName.1": "All", "MessageAttributeName.1": "*"},
    )
    assert texts(tree, "Body") == [body]
    assert texts(tree, "MD5OfMessageAttributes") == [attributes_md5]
    assert {"ApproximateReceiveCount", "SenderId", "n", "b"} <= set(texts(tree, "Name"))
    assert texts(tree, "BinaryValue") == ["AAE="]


def test_a_shell_needs_no_body_and_no_queue_url(server: LocalSqs) -> None:
    path = "/" + make(server, "shell").split("/", 3)[3]
    sent = requests.get(
        server.url + path + "?Action=SendMessage&MessageBody=hi%20you&Version=2012-11-05", timeout=60
    )
    assert sent.status_code == 200
    got = requests.get(server.url + path + "?Action=ReceiveMessage", timeout=60)
    assert b"<Body>hi you</Body>" in got.content


@pytest.mark.parametrize("action", ["CreateQueue", "ListQueues"])
def test_a_queues_own_address_is_not_for_actions_on_all_queues(server: LocalSqs, action: str) -> None:
    # recorded: localstack's tests/aws/services/sqs/test_sqs.py, TestSqsQueryApi
    path = "/" + make(server, "address").split("/", 3)[3]
    answer = requests.get(server.url + path, params={"Action": action, "QueueName": "x"}, timeout=60)
    assert answer.status_code == 400
    tree = ElementTree.fromstring(answer.content)
    assert texts(tree, "Code") == ["InvalidAction"]
    assert texts(tree, "Message") == [f"The action {action} is not valid for this endpoint."]
    nothing = requests.get(server.url + path, timeout=60)
    assert (nothing.status_code, nothing.text.strip()) == (404, "<UnknownOperationException/>")


def test_who_accepts_json_alone_gets_the_answers_as_json(server: LocalSqs) -> None:
    # as integrations of API Gateway are answered
    path = "/" + make(server, "gateway").split("/", 3)[3]

    def get(**fields: str) -> Any:
        return requests.get(
            server.url + path, fields, headers={"Accept": "application/json"}, timeout=60
        ).json()

    empty = get(Action="ReceiveMessage")["ReceiveMessageResponse"]
    assert empty["ReceiveMessageResult"] == {"messages": None}
    assert empty["ResponseMetadata"]["RequestId"]
    sent = get(Action="SendMessage", MessageBody="x")["SendMessageResponse"]["SendMessageResult"]
    (message,) = get(Action="ReceiveMessage", **{"AttributeName.1": "SenderId"})["ReceiveMessageResponse"][
        "ReceiveMessageResult"
    ]["messages"]
    assert message["MessageId"] == sent["MessageId"]
    assert message["MessageAttributes"] is None
    (attribute,) = message["Attributes"]
    assert attribute["Name"] == "SenderId"
    told = get(Action="GetQueueAttributes", **{"AttributeName.1": "VisibilityTimeout"})
    assert told["GetQueueAttributesResponse"]["GetQueueAttributesResult"] == {
        "Attributes": [{"Name": "VisibilityTimeout", "Value": "30"}]
    }
    assert get(Action="ListQueues")["Error"] == {
        "Type": "Sender",
        "Code": "InvalidAction",
        "Message": "The action ListQueues is not valid for this endpoint.",
    }
    assert "PurgeQueueResult" not in get(Action="PurgeQueue")["PurgeQueueResponse"]


def test_an_empty_list_of_an_older_sdk_is_no_error(server: LocalSqs) -> None:
    # botocore 1.31 sends a list without members as one empty field
    url = make(server, "empty")
    fields = {"AttributeNames": "", "MessageAttributeNames": ""}
    assert ask(server, Action="ReceiveMessage", QueueUrl=url, **fields)[0] == 200
    for entries in ({"Entries": ""}, {}):
        status, tree = ask(server, Action="SendMessageBatch", QueueUrl=url, **entries)
        assert (status, texts(tree, "Code")) == (400, ["AWS.SimpleQueueService.EmptyBatchRequest"])


def test_a_batch_of_many_tells_what_failed_of_it(server: LocalSqs) -> None:
    url = make(server, "many")
    fields = {
        f"SendMessageBatchRequestEntry.{number}.{name}": value
        for number in range(1, 11)
        for name, value in (("Id", f"i{number}"), ("MessageBody", f"m{number}"))
    }
    fields["SendMessageBatchRequestEntry.10.DelaySeconds"] = "901"
    status, tree = ask(server, Action="SendMessageBatch", QueueUrl=url, **fields)
    assert status == 200
    assert len(list(tree.iter(NAMESPACE + "SendMessageBatchResultEntry"))) == 9
    (failed,) = tree.iter(NAMESPACE + "BatchResultErrorEntry")
    assert failed.findtext(NAMESPACE + "Id") == "i10"
    assert failed.findtext(NAMESPACE + "SenderFault") == "true"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"Action": "GetQueueUrl", "QueueName": "none"}, 400, "AWS.SimpleQueueService.NonExistentQueue"),
        ({"Action": "Fly"}, 400, "InvalidAction"),
        ({"Version": "2012-11-05"}, 400, "MissingAction"),
        ({"Action": "CreateQueue"}, 400, "MissingParameter"),
        ({"Action": "ListQueues", "MaxResults": "many"}, 400, "MalformedInput"),
        ({"Action": "ListQueues", "Attribute.x.Name": "a"}, 400, "MalformedQueryString"),
        ({"Action": "ListQueues", "MaxResults": "1", "NextToken": "bm90"}, 400, "InvalidParameterValue"),
        ({"Action": "GetQueueUrl", "QueueName": "way", "QueueOwnerAWSAccountId": "123456789012"}, 400,
         "AWS.SimpleQueueService.NonExistentQueue"),
    ],
)  # fmt: skip
def test_an_error_has_its_code_and_status(
    server: LocalSqs, fields: dict[str, str], status: int, code: str
) -> None:
    found, tree = ask(server, **fields)
    assert found == status
    assert tree.tag == NAMESPACE + "ErrorResponse"
    assert texts(tree, "Code") == [code]
    assert texts(tree, "Type") == ["Sender"]


def test_a_second_purge_within_a_minute_is_forbidden(server: LocalSqs) -> None:
    url = make(server, "purged")
    assert ask(server, Action="PurgeQueue", QueueUrl=url)[0] == 200
    status, tree = ask(server, Action="PurgeQueue", QueueUrl=url)
    assert (status, texts(tree, "Code")) == (403, ["AWS.SimpleQueueService.PurgeQueueInProgress"])


def test_a_permission_is_a_statement_of_the_policy_until_it_is_removed(server: LocalSqs) -> None:
    url = make(server, "shared")
    granted = {
        "AWSAccountId.1": "111122223333",
        "ActionName.1": "SendMessage",
        "ActionName.2": "ReceiveMessage",
    }
    assert ask(server, Action="AddPermission", QueueUrl=url, Label="them", **granted)[0] == 200
    status, tree = ask(server, Action="AddPermission", QueueUrl=url, Label="them", **granted)
    assert (status, texts(tree, "Code")) == (400, ["InvalidParameterValue"])
    _, tree = ask(server, Action="GetQueueAttributes", QueueUrl=url, **{"AttributeName.1": "Policy"})
    (value,) = texts(tree, "Value")
    (statement,) = json.loads(value or "")["Statement"]
    assert statement["Sid"] == "them"
    assert statement["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}
    assert statement["Action"] == ["SQS:SendMessage", "SQS:ReceiveMessage"]
    assert ask(server, Action="RemovePermission", QueueUrl=url, Label="them")[0] == 200
    status, tree = ask(server, Action="RemovePermission", QueueUrl=url, Label="them")
    assert (status, texts(tree, "Code")) == (400, ["InvalidParameterValue"])
    _, tree = ask(server, Action="GetQueueAttributes", QueueUrl=url, **{"AttributeName.1": "Policy"})
    assert texts(tree, "Value") == []


def test_pages_of_queues_follow_one_another_by_their_token(server: LocalSqs) -> None:
    for number in range(3):
        make(server, f"page-{number}")
    names: list[str] = []
    more: dict[str, str] = {}
    while True:
        _, tree = ask(server, Action="ListQueues", QueueNamePrefix="page-", MaxResults="2", **more)
        names += [str(url).rsplit("/", 1)[1] for url in texts(tree, "QueueUrl")]
        token = texts(tree, "NextToken")
        if not token:
            break
        more = {"NextToken": str(token[0])}
    assert names == ["page-0", "page-1", "page-2"]


TALK = """
import json, sys
import botocore.session
client = botocore.session.get_session().create_client(
    "sqs", endpoint_url=sys.argv[1], region_name="us-east-1",
    aws_access_key_id="x", aws_secret_access_key="y")
url = client.create_queue(QueueName="old", Attributes={"VisibilityTimeout": "9"}, tags={"a": "b"})["QueueUrl"]
sent = client.send_message_batch(QueueUrl=url, Entries=[
    {"Id": str(n), "MessageBody": f"<{n}>",
     "MessageAttributes": {"k": {"DataType": "Binary", "BinaryValue": b"x"}}}
    for n in range(10)])
got = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"],
                             MessageAttributeNames=["All"])["Messages"]
handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(got)]
deleted = client.delete_message_batch(QueueUrl=url, Entries=handles)
try:
    client.get_queue_url(QueueName="none")
except client.exceptions.QueueDoesNotExist as error:
    code = error.response["Error"]["Code"]
print(json.dumps({
    "protocol": client.meta.service_model.metadata["protocol"], "sent": len(sent["Successful"]),
    "bodies": sorted(m["Body"] for m in got),
    "value": got[0]["MessageAttributes"]["k"]["BinaryValue"].decode(),
    "deleted": len(deleted["Successful"]), "code": code,
    "tags": client.list_queue_tags(QueueUrl=url)["Tags"],
    "timeout": client.get_queue_attributes(
        QueueUrl=url, AttributeNames=["All"])["Attributes"]["VisibilityTimeout"],
}))
"""


# What the service model of that botocore calls things on the wire.
NAMES = """
import json
import botocore.session
model = botocore.session.get_session().get_service_model("sqs")
lists, maps, whole = {"in": [], "out": []}, {"in": {}, "out": {}}, set()
def look(shape, way):
    for name, member in getattr(shape, "members", {}).items():
        if member.type_name == "list":
            lists[way].append([name, member.member.serialization.get("name", name)])
            look(member.member, way)
        elif member.type_name == "map":
            parts = [part.serialization["name"] for part in (member, member.key, member.value)]
            maps[way][parts[0]] = [name, *parts[1:]]
            look(member.value, way)
        elif member.type_name == "structure":
            look(member, way)
        elif member.type_name in ("integer", "long") and way == "in":
            whole.add(name)
operations = [model.operation_model(name) for name in model.operation_names]
for operation in operations:
    look(operation.input_shape, "in")
    look(operation.output_shape, "out")
results = sorted(operation.name for operation in operations if operation.output_shape)
print(json.dumps({"lists": lists, "maps": maps, "whole": sorted(whole), "results": results}))
"""


@pytest.mark.slow
def test_a_botocore_of_before_november_2023_finds_the_queue_that_it_knows(
    server: LocalSqs, tmp_path: Path
) -> None:
    venv.create(tmp_path / "old", with_pip=False)
    target = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]
    installed = subprocess.run([*install, str(target), "-r", str(OLD)], capture_output=True, text=True)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip("the package index is not reached")
    assert installed.returncode == 0, installed.stderr

    def run(script: str) -> dict[str, Any]:
        python = [str(tmp_path / "old" / "bin" / "python"), "-c", script, server.url]
        answer = subprocess.run(
            python, env={"PYTHONPATH": str(target)}, capture_output=True, text=True, timeout=300, check=True
        )
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    names = run(NAMES)
    # what receiving may ask for besides is younger than that model
    younger = ("MessageSystemAttributeName", "MessageSystemAttributeNames")
    assert {(name, member) for member, name in names["lists"]["in"]} | {younger} == {*query._LISTS_IN.items()}
    results = {(member, name) for member, name in names["lists"]["out"] if member == "Successful"}
    assert all(name.endswith("BatchResultEntry") for _, name in results)
    assert {tuple(pair) for pair in names["lists"]["out"]} - results == {*query._LISTS_OUT.items()}
    assert {key: tuple(value) for key, value in names["maps"]["in"].items()} | {
        "Tag": ("Tags", "Key", "Value")
    } == query._MAPS_IN
    assert {
        member: (name, key, value) for name, (member, key, value) in names["maps"]["out"].items()
    } == query._MAPS_OUT
    assert set(names["whole"]) == query._WHOLE
    assert set(names["results"]) == query._WITH_RESULT
    said = run(TALK)
    assert said == {
        "protocol": "query",
        "sent": 10,
        "bodies": [f"<{number}>" for number in range(10)],
        "value": "x",
        "deleted": 10,
        "tags": {"a": "b"},
        "code": "AWS.SimpleQueueService.NonExistentQueue",
        "timeout": "9",
    }


# what aws-sdk-js 2.1490.0, the last one of version 2 that speaks this protocol, was seen to send
JS_REQUESTS = [
    "Action=CreateQueue&Attribute.1.Name=FifoQueue&Attribute.1.Value=true&Attribute.2.Name=VisibilityTimeout"
    "&Attribute.2.Value=9&QueueName={name}&Tag.1.Key=a&Tag.1.Value=b&Version=2012-11-05",
    "Action=SendMessage&MessageAttribute.1.Name=k&MessageAttribute.1.Value.BinaryValue=eA%3D%3D"
    "&MessageAttribute.1.Value.DataType=Binary&MessageAttribute.2.Name=n"
    "&MessageAttribute.2.Value.DataType=Number&MessageAttribute.2.Value.StringValue=1"
    "&MessageBody=%3C%C3%A9%3E%26%22&MessageDeduplicationId=d&MessageGroupId=g&QueueUrl={url}"
    "&Version=2012-11-05",
    "Action=SendMessageBatch&QueueUrl={url}&SendMessageBatchRequestEntry.1.Id=a"
    "&SendMessageBatchRequestEntry.1.MessageBody=1"
    "&SendMessageBatchRequestEntry.1.MessageDeduplicationId=1&SendMessageBatchRequestEntry.1.MessageGroupId=g"
    "&SendMessageBatchRequestEntry.2.DelaySeconds=5&SendMessageBatchRequestEntry.2.Id=b"
    "&SendMessageBatchRequestEntry.2.MessageBody=2&SendMessageBatchRequestEntry.2.MessageDeduplicationId=2"
    "&SendMessageBatchRequestEntry.2.MessageGroupId=g&Version=2012-11-05",
    "Action=ReceiveMessage&AttributeName.1=All&MaxNumberOfMessages=10&MessageAttributeName.1=All"
    "&QueueUrl={url}&Version=2012-11-05",
    "Action=GetQueueUrl&QueueName=none&Version=2012-11-05",
]


def test_what_version_2_of_the_javascript_sdk_sends_is_understood(server: LocalSqs) -> None:
    replies = []
    for request in JS_REQUESTS:
        url = quote(f"{server.url}/000000000000/js.fifo", safe="")
        connection = http.client.HTTPConnection(server.host, server.port)
        connection.request(
            "POST",
            "/",
            request.format(name="js.fifo", url=url),
            {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        )
        answer = connection.getresponse()
        replies.append((answer.status, ElementTree.fromstring(answer.read())))
        connection.close()
    assert [status for status, _ in replies] == [200, 200, 200, 200, 400]
    trees = [tree for _, tree in replies]
    assert texts(trees[0], "QueueUrl") == [f"{server.url}/000000000000/js.fifo"]
    # as that SDK verified them
    assert texts(trees[1], "MD5OfMessageBody") == ["7acb3f32a1e3017795c4c34f5f8ef0be"]
    assert texts(trees[1], "MD5OfMessageAttributes") == ["2f73cb86c5bf71243d0f158775c6025b"]
    assert texts(trees[2], "Id") == ["a", "b"]
    assert texts(trees[2], "Code") == ["InvalidParameterValue"]
    assert texts(trees[3], "Body") == ['<é>&"', "1"]
    assert texts(trees[3], "BinaryValue") == ["eA=="]
    assert texts(trees[4], "Message") == ["The specified queue does not exist for this wsdl version."]


JS = """
const AWS = require("aws-sdk");
const sqs = new AWS.SQS({endpoint: process.argv[2], region: "us-east-1", accessKeyId: "x",
                         secretAccessKey: "y", maxRetries: 0});
(async () => {
  const {QueueUrl} = await sqs.createQueue({QueueName: "js-live"}).promise();
  const attribute = {DataType: "Binary", BinaryValue: Buffer.from("x")};
  await sqs.sendMessage({QueueUrl, MessageBody: "<é>&", MessageAttributes: {k: attribute}}).promise();
  const {Messages} = await sqs.receiveMessage({QueueUrl, MessageAttributeNames: ["All"]}).promise();
  await sqs.deleteMessage({QueueUrl, ReceiptHandle: Messages[0].ReceiptHandle}).promise();
  const code = await sqs.getQueueUrl({QueueName: "none"}).promise().catch(error => error.code);
  const value = Messages[0].MessageAttributes.k.BinaryValue.toString();
  console.log(JSON.stringify({body: Messages[0].Body, value, code}));
})();
"""


@pytest.mark.slow
def test_version_2_of_the_javascript_sdk_finds_the_queue_that_it_knows(
    server: LocalSqs, tmp_path: Path
) -> None:
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".", "aws-sdk@2.1490.0"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=400).returncode:
        pytest.skip("the package index is not reached")
    (tmp_path / "talk.js").write_text(JS)
    talk = subprocess.run(
        ["node", "talk.js", server.url], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(talk.stdout) == {
        "body": "<é>&",
        "value": "x",
        "code": "AWS.SimpleQueueService.NonExistentQueue",
    }
