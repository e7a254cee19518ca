"""The local SQS as a process: the log, faults, the bill, quotas, malformed requests, start and end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuebench.errors import SettingsError
from queuebench.local_sqs import log as log_module
from queuebench.local_sqs.log import Log
from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import (
    LocalSqs,
    Sqs,
    client_of,
    error_of,
    fresh_name,
    running,
)

pytestmark = pytest.mark.slow

local = fixtures.local
local_server = fixtures.local_server


def get(server: LocalSqs, path: str, method: str = "GET", body: bytes | None = None) -> Any:
    request = urllib.request.Request(server.url + path, method=method, data=body)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def post(server: LocalSqs, body: bytes, **headers: str) -> tuple[int, dict[str, str], Any]:
    """POST anything; return status, headers and JSON of the answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request("POST", "/", body, {key.replace("_", "-"): value for key, value in headers.items()})
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    connection.close()
    return reply.status, {key.lower(): value for key, value in reply.getheaders()}, answer


def await_polls(server: LocalSqs, count: int) -> None:
    """Wait until so many long polls wait."""
    deadline = time.monotonic() + 20
    while get(server, "/health")["long_polls"] != count:
        assert time.monotonic() < deadline


def waiting(sqs: Sqs, url: str) -> int:
    return int(sqs.attribute(url, "ApproximateNumberOfMessages"))


# Malformed requests

SEND = "AmazonSQS.SendMessage"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", "SerializationException"),
        (b"\xff\xfe", "SerializationException"),
        (b"[]", "SerializationException"),
        (b"null", "SerializationException"),
        (b'"text"', "SerializationException"),
        (b"[" * 100_000, "SerializationException"),
        (b'{"a":' * 50_000, "SerializationException"),
        (b'{"QueueUrl": NaN}', "SerializationException"),
        (b'{"QueueUrl": 7}', "SerializationException"),
        (b'{"QueueUrl": ["x"], "MessageBody": "x"}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": 7}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": "x", "DelaySeconds": "soon"}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": "x", "DelaySeconds": 1.5}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": "x", "DelaySeconds": true}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": "x", "MessageAttributes": []}', "SerializationException"),
        (b'{"QueueUrl": "%s", "MessageBody": "x", "MessageAttributes": {"a": 1}}', "SerializationException"),
        (
            b'{"QueueUrl": "%s", "MessageBody": "x", "MessageAttributes":'
            b' {"a": {"DataType": "Binary", "BinaryValue": "?"}}}',
            "SerializationException",
        ),
        (b"", "MissingRequiredParameterException"),
        (b"{}", "MissingRequiredParameterException"),
        (b'{"QueueUrl": null}', "MissingRequiredParameterException"),
        (b'{"QueueUrl": "%s"}', "MissingRequiredParameterException"),
        (b'{"QueueUrl": ""}', "QueueDoesNotExist"),
        (b'{"QueueUrl": "http://elsewhere/1/none"}', "QueueDoesNotExist"),
    ],
)
def test_malformed_json_gets_an_error_of_aws(
    local: Sqs, local_server: LocalSqs, body: bytes, error: str
) -> None:
    if b"%s" in body:
        body = body.replace(b"%s", local.queue().encode())
    status, headers, answer = post(local_server, body, X_Amz_Target=SEND)
    assert status == 400
    assert answer["__type"].rpartition("#")[2] == error
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amzn-query-error"].endswith(";Sender")
    assert headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    "target", ["AmazonSQS.Dance", "AmazonSQS.", "SendMessage", "AmazonS3.SendMessage", "é"]
)
def test_unknown_actions_are_refused(local_server: LocalSqs, target: str) -> None:
    status, _, answer = post(local_server, b"{}", X_Amz_Target=target)
    assert (status, answer["__type"]) == (400, "com.amazon.coral.service#UnknownOperationException")


def test_a_request_without_an_action_is_refused(local_server: LocalSqs) -> None:
    status, _, answer = post(local_server, b"Action=ListQueues&Version=2012-11-05")
    assert (status, answer["__type"]) == (400, "com.amazon.coral.service#UnknownOperationException")


@pytest.mark.parametrize("entry", ["7", "null", "[]", '{"Id": 7}', '{"Id": null}'])
def test_entries_that_are_no_entries_are_refused(local: Sqs, local_server: LocalSqs, entry: str) -> None:
    body = f'{{"QueueUrl": "{local.queue()}", "Entries": [{entry}]}}'
    status, _, answer = post(local_server, body.encode(), X_Amz_Target=SEND + "Batch")
    assert status == 400
    assert answer["__type"].startswith("com.amazon")


def test_a_huge_body_is_refused_and_the_server_goes_on(local: Sqs, local_server: LocalSqs) -> None:
    try:
        with pytest.raises(ValueError, match="Expecting value"):
            # 413 in plain text: it is refused before it is SQS's
            post(local_server, b" " * 20_000_000, X_Amz_Target=SEND)
    except (BrokenPipeError, ConnectionResetError):
        # refused while it was still being sent
        pass
    assert local.queue()


def test_the_longest_body_that_escaping_makes_is_taken(local: Sqs) -> None:
    url = local.queue()
    # boto3 escapes each of these two bytes as six
    local.send(url, "é" * 524_288)
    assert waiting(local, url) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"A" * 200_000,
    ],
)
def test_broken_connections_stop_nothing(local: Sqs, local_server: LocalSqs, data: bytes) -> None:
    for _ in range(5):
        connection = socket.create_connection((local_server.host, local_server.port))
        connection.sendall(data)
        connection.close()
    assert local.queue()
    assert local_server.process.poll() is None


def test_a_slow_connection_holds_up_nobody(local: Sqs, local_server: LocalSqs) -> None:
    url = local.queue()
    body = json.dumps({"QueueUrl": url, "MessageBody": "slow"}).encode()
    request = (
        f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: {SEND}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection((local_server.host, local_server.port), timeout=10) as slow:
        for i in range(0, len(request), 16):
            if i % 64 == 0:
                assert waiting(local, url) == 0
            slow.sendall(request[i : i + 16])
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
    assert local.bodies(url) == ["slow"]


@pytest.mark.parametrize(
    "more", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["", "and asked more"]
)
def test_a_poll_whose_client_left_takes_no_message(own: tuple[LocalSqs, Sqs], more: bytes) -> None:
    server, sqs = own
    url = sqs.queue()
    body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}).encode()
    head = (
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(3):
        with socket.create_connection((server.host, server.port)) as gone:
            gone.sendall(head.encode() + body + more)
            await_polls(server, 1)
        await_polls(server, 0)
    sqs.send(url, "x")
    assert sqs.bodies(url) == ["x"]


def test_each_poll_that_waits_gets_one_of_the_messages_that_arrive(
    local: Sqs, local_server: LocalSqs
) -> None:
    url = local.queue()
    received: list[str] = []

    def poll() -> None:
        received.extend(local.bodies(url, 1, wait=20))

    pollers = [threading.Thread(target=poll) for _ in range(5)]
    for poller in pollers:
        poller.start()
    await_polls(local_server, 5)
    local.send(url, *"abcde")
    for poller in pollers:
        poller.join(timeout=15)
    assert sorted(received) == list("abcde")


@pytest.mark.parametrize("freed_by", ["delete", "timeout", "change"])
def test_a_poll_wakes_when_a_locked_group_becomes_free(
    local: Sqs, local_server: LocalSqs, freed_by: str
) -> None:
    url = local.fifo(VisibilityTimeout=2 if freed_by == "timeout" else 600)
    local.send_fifo(url, "g", "a", "b")
    (message,) = local.receive(url, 1)
    received: list[str] = []
    poller = threading.Thread(target=lambda: received.extend(local.bodies(url, 1, wait=20)))
    poller.start()
    if freed_by != "timeout":
        await_polls(local_server, 1)
    if freed_by == "delete":
        local.delete(url, message)
    elif freed_by == "change":
        local.client.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    poller.join(timeout=15)
    assert received == (["b"] if freed_by == "delete" else ["a"])


def test_a_poll_wakes_when_a_dead_letter_or_a_moved_message_arrives(
    local: Sqs, local_server: LocalSqs
) -> None:
    dead = local.queue()
    policy = json.dumps({"deadLetterTargetArn": local.arn(dead), "maxReceiveCount": 1})
    url = local.queue(VisibilityTimeout=0, RedrivePolicy=policy)
    local.send(url, "x")
    local.receive(url)
    received: list[str] = []
    poller = threading.Thread(
        target=lambda: received.extend(local.bodies(dead, wait=20, VisibilityTimeout=0))
    )
    poller.start()
    await_polls(local_server, 1)
    assert local.bodies(url) == []
    poller.join(timeout=15)
    taker = threading.Thread(target=lambda: received.extend(local.bodies(url, wait=20)))
    taker.start()
    await_polls(local_server, 1)
    local.client.start_message_move_task(SourceArn=local.arn(dead))
    taker.join(timeout=15)
    assert received == ["x", "x"]


def test_a_poll_of_a_queue_that_is_deleted_ends(local: Sqs, local_server: LocalSqs) -> None:
    url = local.queue()
    errors: list[str] = []

    def poll() -> None:
        errors.append(error_of(local.client.receive_message, QueueUrl=url, WaitTimeSeconds=20)[0])

    poller = threading.Thread(target=poll)
    poller.start()
    await_polls(local_server, 1)
    local.client.delete_queue(QueueUrl=url)
    poller.join(timeout=15)
    assert errors == ["AWS.SimpleQueueService.NonExistentQueue"]


def test_the_queue_url_names_the_host_that_was_asked(local_server: LocalSqs) -> None:
    name = fresh_name()
    _, _, answer = post(
        local_server,
        json.dumps({"QueueName": name}).encode(),
        X_Amz_Target="AmazonSQS.CreateQueue",
        Host="sqs:9324",
    )
    assert answer["QueueUrl"] == f"http://sqs:9324/000000000000/{name}"


# Message move tasks


def test_dead_letters_are_moved_back(local: Sqs) -> None:
    dead = local.queue()
    policy = json.dumps({"deadLetterTargetArn": local.arn(dead), "maxReceiveCount": 1})
    url = local.queue(VisibilityTimeout=0, RedrivePolicy=policy)
    local.send(url, "a", "b")
    while local.receive(url):
        pass
    assert waiting(local, dead) == 2
    handle = local.client.start_message_move_task(SourceArn=local.arn(dead))["TaskHandle"]
    assert sorted(local.bodies(url, 1, wait=5) + local.bodies(url, 1, wait=5)) == ["a", "b"]
    (task,) = local.client.list_message_move_tasks(SourceArn=local.arn(dead))["Results"]
    assert task["Status"] == "COMPLETED"
    assert task["ApproximateNumberOfMessagesMoved"] == task["ApproximateNumberOfMessagesToMove"] == 2
    assert error_of(local.client.cancel_message_move_task, TaskHandle=handle) == (
        "ResourceNotFoundException",
        "Task does not exist.",
    )


def test_a_running_move_task_can_be_listed_and_cancelled(local: Sqs) -> None:
    dead = local.queue()
    policy = json.dumps({"deadLetterTargetArn": local.arn(dead), "maxReceiveCount": 1})
    local.queue(RedrivePolicy=policy)
    local.client.send_message_batch(
        QueueUrl=dead, Entries=[{"Id": str(i), "MessageBody": "x"} for i in range(10)]
    )
    target = local.arn(local.queue())
    source = local.arn(dead)
    arguments: Any = {"SourceArn": source, "DestinationArn": target, "MaxNumberOfMessagesPerSecond": 1}
    handle = local.client.start_message_move_task(**arguments)["TaskHandle"]
    code, message = error_of(local.client.start_message_move_task, **arguments)
    assert code == "InvalidParameterValue"
    assert message.startswith("There is already a task running.")
    (task,) = local.client.list_message_move_tasks(SourceArn=source)["Results"]
    assert (task["Status"], task["TaskHandle"], task["DestinationArn"]) == ("RUNNING", handle, target)
    local.client.cancel_message_move_task(TaskHandle=handle)
    (task,) = local.client.list_message_move_tasks(SourceArn=source)["Results"]
    assert task["Status"] == "CANCELLED"
    assert "TaskHandle" not in task


def test_move_tasks_that_cannot_be_are_refused(local: Sqs) -> None:
    plain = local.arn(local.queue())
    start, cancel = local.client.start_message_move_task, local.client.cancel_message_move_task
    assert error_of(start, SourceArn=plain) == (
        "InvalidParameterValue",
        "Source queue must be configured as a Dead Letter Queue.",
    )
    assert error_of(start, SourceArn=plain + "-none") == (
        "ResourceNotFoundException",
        "The resource that you specified for the SourceArn parameter doesn't exist.",
    )
    assert error_of(start, SourceArn=plain, MaxNumberOfMessagesPerSecond=501)[0] == "InvalidParameterValue"
    assert error_of(cancel, TaskHandle="garbage") == (
        "InvalidParameterValue",
        "Value for parameter TaskHandle is invalid.",
    )


# Faults, quotas, latency, bill


@pytest.fixture
def own() -> Iterator[tuple[LocalSqs, Sqs]]:
    """Yield a local SQS that no other test uses."""
    with running() as server:
        yield server, Sqs(client_of(server.url))


def test_faults_are_set_while_it_runs(own: tuple[LocalSqs, Sqs]) -> None:
    server, sqs = own
    url = sqs.queue()
    assert set(get(server, "/faults").values()) == {0}
    get(server, "/faults", "PUT", b'{"throttling": 1}')
    assert error_of(sqs.client.send_message, QueueUrl=url, MessageBody="x") == (
        "RequestThrottled",
        "Request is throttled.",
    )
    get(server, "/faults", "PUT", b'{"throttling": 0, "failed_entries": 1}')
    reply = sqs.client.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x"}])
    assert [(entry["Code"], entry["SenderFault"]) for entry in reply["Failed"]] == [
        ("InternalFailure", False)
    ]
    get(server, "/faults", "PUT", b'{"failed_entries": 0, "duplicate_deliveries": 1}')
    (sent,) = sqs.send(url, "x")
    ids = [sqs.receive(url, 1)[0]["MessageId"] for _ in range(2)]
    assert ids == [sent["MessageId"]] * 2
    assert sqs.receive(url) == []


def test_half_of_the_errors_were_done_all_the_same(own: tuple[LocalSqs, Sqs]) -> None:
    server, sqs = own
    url = sqs.queue()
    get(server, "/faults", "PUT", b'{"errors": 1}')
    for _ in range(100):
        assert error_of(sqs.client.send_message, QueueUrl=url, MessageBody="x")[0] == "InternalFailure"
    get(server, "/faults", "PUT", b'{"errors": 0}')
    # fewer or more than these: once in ten million runs
    assert 25 <= waiting(sqs, url) <= 75


def test_boto3_retries_errors_and_throttling() -> None:
    with running("--errors", "0.2", "--throttling", "0.2") as server:
        sqs = Sqs(client_of(server.url, retries=20))
        url = sqs.queue()
        sqs.send(url, *map(str, range(5)))
        assert waiting(sqs, url) >= 5


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"errors": 2}', b'{"fire": 0.1}'])
def test_faults_that_cannot_be_are_refused(own: tuple[LocalSqs, Sqs], body: bytes) -> None:
    server, _ = own
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "/faults", "PUT", body)
    assert caught.value.code == 400
    assert json.load(caught.value)["error"]
    assert set(get(server, "/faults").values()) == {0}


def test_calls_above_the_fifo_quota_are_throttled_and_boto3_retries_them() -> None:
    with running("--fifo-quota", "3") as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.fifo(ContentBasedDeduplication="true")
        arguments: Any = {"QueueUrl": url, "MessageBody": "x", "MessageGroupId": "g"}
        codes = set()
        for _ in range(20):
            try:
                sqs.client.send_message(**arguments)
            except sqs.client.exceptions.RequestThrottled as error:
                codes.add(error.response["Error"]["Code"])
        assert codes == {"RequestThrottled"}
        assert sqs.receive(url) != []
        patient = Sqs(client_of(server.url, retries=9))
        patient.send_fifo(url, "h", *map(str, range(6)))
        assert get(server, "/bill")["not_billed"]["RequestThrottled"] > 0
        free = patient.fifo(DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
        sqs.send_fifo(free, "g", *map(str, range(20)))


def test_no_quotas_lets_everything_through() -> None:
    with running("--no-quotas") as server:
        sqs = Sqs(client_of(server.url))
        name = fresh_name()
        for _ in range(2):
            url = sqs.queue(name)
            sqs.client.purge_queue(QueueUrl=url)
            sqs.client.purge_queue(QueueUrl=url)
            sqs.client.delete_queue(QueueUrl=url)
        assert "no FIFO quota" in server.first_line


def test_latency_is_on_unless_turned_off() -> None:
    with running("--latency", "1", "--latency-p99", "2") as server:
        assert "latency 1 ms median, 2 ms p99" in server.first_line
        sqs = Sqs(client_of(server.url))
        url = sqs.queue()
        sqs.send(url, "x")
        assert sqs.bodies(url) == ["x"]


def test_the_bill_counts_what_aws_bills(own: tuple[LocalSqs, Sqs]) -> None:
    server, sqs = own
    url, fifo = sqs.queue(), sqs.fifo()
    sqs.send(url, "x", "x" * 65_537)
    sqs.client.send_message_batch(
        QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": "x" * 65_536} for i in range(3)]
    )
    assert len(sqs.receive(url)) == 5
    assert sqs.receive(url) == []
    sqs.send_fifo(fifo, "g", "x")
    assert error_of(sqs.client.delete_message, QueueUrl=url, ReceiptHandle="x")
    bill = get(server, "/bill")
    assert bill["service"] == "local SQS"
    assert bill["requests"] == {
        "standard": {
            "CreateQueue": 1,
            "SendMessage": 2,
            "SendMessageBatch": 1,
            "ReceiveMessage": 2,
            "DeleteMessage": 1,
        },
        "fifo": {"CreateQueue": 1, "SendMessage": 1},
    }
    assert bill["empty_receives"] == {"standard": 1, "fifo": 0}
    # 1 create, 1 + 2 sends, 3 for the batch, 5 for the receive of 262,146 bytes, 1 empty one, 1 delete
    assert bill["billed_requests"] == {"standard": 14, "fifo": 2}
    assert bill["usd"] == pytest.approx((14 * 0.40 + 2 * 0.50) / 1e6)
    assert bill["queues"][fifo.rpartition("/")[2]] == {"CreateQueue": 1, "SendMessage": 1}


def test_what_is_not_sqs_is_told_apart(local_server: LocalSqs) -> None:
    assert get(local_server, "/health")["status"] == "ok"
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(local_server, "/elsewhere")
    assert caught.value.code == 404
    assert "local SQS" in json.load(caught.value)["error"]


# The log


def test_a_killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    sent: list[str] = []
    with running(*data) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.queue("q", VisibilityTimeout=600)
        sqs.client.tag_queue(QueueUrl=url, Tags={"a": "b"})
        first = sqs.send(
            url, "é☃🦊", "deleted", MessageAttributes={"a": {"DataType": "String", "StringValue": "v"}}
        )
        messages = sqs.receive(url)
        sqs.delete(url, messages[1])

        def flood() -> None:
            for number in range(1_000_000):
                try:
                    sqs.send(url, str(number))
                except Exception:
                    return
                sent.append(str(number))

        flooding = threading.Thread(target=flood)
        flooding.start()
        while len(sent) < 200:
            time.sleep(0.001)
        assert server.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        flooding.join(timeout=30)
    with running(*data) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.client.get_queue_url(QueueName="q")["QueueUrl"]
        assert sqs.client.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
        assert sqs.attribute(url, "VisibilityTimeout") == "600"
        assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "1"
        received: list[str] = []
        while bodies := sqs.bodies(url):
            received += bodies
        # the last send may have been done and not answered
        assert received[: len(sent)] == sent
        assert len(received) <= len(sent) + 1
        handle = messages[0]["ReceiptHandle"]
        sqs.client.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
        (back,) = sqs.receive(url, AttributeNames=["All"], MessageAttributeNames=["All"])
        assert back["Body"] == "é☃🦊"
        assert back["MessageId"] == first[0]["MessageId"]
        assert back["Attributes"]["ApproximateReceiveCount"] == "2"
        assert set(back["MessageAttributes"]) == {"a"}


def test_a_fifo_queue_goes_on_after_a_kill(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    with running(*data) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.queue("q.fifo", FifoQueue="true", ContentBasedDeduplication="true", VisibilityTimeout=2)
        sent = [sqs.client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g") for body in "abc"]
        assert sqs.bodies(url, 2) == ["a", "b"]
        server.stop(signal.SIGKILL)
    with running(*data) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.client.get_queue_url(QueueName="q.fifo")["QueueUrl"]
        again = sqs.client.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="g")
        assert again["SequenceNumber"] == sent[0]["SequenceNumber"]
        assert sqs.bodies(url, wait=10) == ["a", "b", "c"]


def test_a_torn_last_record_is_cut_off(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    with running(*data) as server:
        sqs = Sqs(client_of(server.url))
        sqs.send(sqs.queue("q"), "a", "b")
        server.stop(signal.SIGKILL)
    path = tmp_path / "local-sqs.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    for expected in (["a"], ["a", "c"]):
        with running(*data) as server:
            sqs = Sqs(client_of(server.url))
            url = sqs.client.get_queue_url(QueueName="q")["QueueUrl"]
            assert sqs.bodies(url, VisibilityTimeout=0) == expected
            sqs.send(url, "c")
            server.stop(signal.SIGKILL)


def test_a_log_damaged_in_the_middle_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "local-sqs.log").write_bytes(b'["gone","x",1]\n{broken\n["gone","y",1]\n')
    done = start("--data", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"queuebench sqs: line 2 of {tmp_path / 'local-sqs.log'} is damaged: move the file away to start "
        "empty"
    ]


@pytest.mark.parametrize("line", ['["dance","x"]', "7", '["send","none",1]', '{"a":1}'])
def test_a_log_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "local-sqs.log").write_text(line + "\n")
    done = start("--data", str(tmp_path))
    assert done.returncode == 2
    assert "is not one of this local SQS" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_never_share_a_log(tmp_path: Path) -> None:
    with running("--data", str(tmp_path)):
        done = start("--data", str(tmp_path))
        assert done.returncode == 2
        assert "another local SQS uses" in done.stderr


def test_a_log_is_written_anew_when_most_of_it_is_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SMALL_BYTES", 1000)
    log = Log(tmp_path)
    events = [["event", number] for number in range(1000)]
    for event in events:
        log.append([event])
        if log.is_worth_compacting(2):
            log.compact([["compacted"], event])
    size = (tmp_path / "local-sqs.log").stat().st_size
    assert size < 1100
    log.close()
    again = Log(tmp_path)
    kept = list(again.read())
    assert kept[0] == ["compacted"]
    assert kept[1:] == events[-len(kept) + 1 :]
    again.close()


def test_what_is_logged_while_the_log_is_written_anew_is_in_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SMALL_BYTES", 1000)
    log = Log(tmp_path)
    old, live = [["old", number] for number in range(5000)], [["live", number] for number in range(300)]
    log.append(old + live)
    assert log.is_worth_compacting(len(live))
    log.begin_compacting(live)
    assert not log.is_worth_compacting(len(live))
    said: list[list[object]] = []
    path = tmp_path / "local-sqs.log"
    before = path.stat().st_ino
    while path.stat().st_ino == before:
        said.append(["since", len(said)])
        log.append([said[-1]])
        log.go_on_compacting()
    log.append([["after"]])
    log.close()
    again = Log(tmp_path)
    assert list(again.read()) == [*live, *said, ["after"]]
    again.close()


def test_a_log_of_which_nothing_can_be_dropped_is_not_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_SMALL_BYTES", 1000)
    log = Log(tmp_path)
    for number in range(1000):
        log.append([["needed", number, "x" * 100]])
        assert not log.is_worth_compacting(number + 1)
    log.close()


def test_what_a_killed_process_left_of_a_new_log_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "local-sqs.new123").write_text("half a li")
    log = Log(tmp_path)
    log.append([["kept"]])
    log.begin_compacting([["kept"]] for _ in range(1))
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local-sqs.lock", "local-sqs.log"]


def test_the_log_of_a_busy_queue_stays_small(tmp_path: Path) -> None:
    with running("--data", str(tmp_path)) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.queue("q", VisibilityTimeout=3600)
        sqs.send(url, "stays")
        (stays,) = sqs.receive(url)
        for _ in range(60):
            sqs.send(url, "x" * 1_000_000)
            (message,) = sqs.receive(url)
            sqs.delete(url, message)
        give_up_at = time.monotonic() + 60
        while (tmp_path / "local-sqs.log").stat().st_size >= 18 * 1024 * 1024:
            # It is written anew beside what goes on, and taken over with the next event.
            assert time.monotonic() < give_up_at
            sqs.send(url, "ping")
            (message,) = sqs.receive(url)
            sqs.delete(url, message)
        server.stop(signal.SIGKILL)
    with running("--data", str(tmp_path)) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.client.get_queue_url(QueueName="q")["QueueUrl"]
        assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "1"
        sqs.delete(url, stays)
        assert sqs.attribute(url, "ApproximateNumberOfMessagesNotVisible") == "0"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot keep the log in"):
        Log(tmp_path / "file")


def test_a_log_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "local-sqs.log").symlink_to("/dev/null")
    with pytest.raises(SettingsError, match="not an ordinary file"):
        Log(tmp_path)


def test_a_log_that_cannot_be_written_stops_it_and_nothing_is_lost(tmp_path: Path) -> None:
    sent: list[str] = []
    with running("--data", str(tmp_path), max_file_bytes=10_000) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.queue("q")
        with pytest.raises(sqs.client.exceptions.ClientError) as caught:
            for number in range(100):
                sqs.send(url, str(number).rjust(200))
                sent.append(str(number))
        assert caught.value.response["Error"]["Code"] == "InternalFailure"
        assert server.process.wait(timeout=20) == 1
        assert server.stop()[2].startswith("local SQS: stopped: cannot write the log: File too large")
    with running("--data", str(tmp_path)) as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.client.get_queue_url(QueueName="q")["QueueUrl"]
        received: list[str] = []
        while bodies := sqs.bodies(url):
            received += [body.strip() for body in bodies]
        assert received == sent


# Start and end


def start(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "queuebench", "sqs", "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_polls_answered(signum: int) -> None:
    with running() as server:
        sqs = Sqs(client_of(server.url))
        url = sqs.queue()
        answers: list[list[str]] = []
        poller = threading.Thread(target=lambda: answers.append(sqs.bodies(url, wait=20)))
        poller.start()
        await_polls(server, 1)
        code, out, err = server.stop(signum)
        poller.join(timeout=15)
        assert (code, err) == (0, "")
        assert out.startswith("local SQS: stopped; AWS would have billed")
        assert answers == [[]]


def test_a_port_in_use_is_one_clear_line(local_server: LocalSqs) -> None:
    done = start("--port", str(local_server.port))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"cannot listen on 127.0.0.1:{local_server.port}" in line


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--port", "x"),
        ("--host", "no.such.host.invalid"),
        ("--latency", "-1"),
        ("--latency", "10", "--latency-p99", "5"),
        ("--fifo-quota", "0"),
        ("--fifo-quota", "nan"),
        ("--errors", "1.5"),
        ("--errors", "nan"),
        ("--dance",),
    ],
)
def test_options_that_cannot_be_end_it_with_code_2(options: tuple[str, ...]) -> None:
    done = start(*options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_it_says_what_it_is_and_never_says_credentials() -> None:
    with running("--latency", "0") as server:
        assert server.first_line.startswith("local SQS listens on http://127.0.0.1:")
        sqs = Sqs(client_of(server.url))
        sqs.send(sqs.queue(), "x")
        error_of(sqs.client.get_queue_url, QueueName="none")
        _, out, err = server.stop()
        assert "any" not in (server.first_line + out + err).lower().replace("many", "")
