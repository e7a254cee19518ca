"""Whatever a producer sends is shipped or kept with a reason; it stops nothing and breaks out of no log."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from queuebench.bench.stack import Service, Stack
from queuebench.broker.dead_letters import KEY, DeadLetter
from queuebench.errors import MessageError
from queuebench.message import decode
from queuebench.pipeline.post import idempotency_key

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
FINE = b'{"p":"+5511999990000","m":"hello"}'


def filled_up(size: int) -> bytes:
    """Return a message of exactly so many bytes."""
    return b'{"p":"1","m":"%b"}' % (b"x" * (size - 15))


CORPUS = [
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe\x00",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf" + FINE,
    b"null",
    b"NaN",
    b"[]",
    b"{}",
    b'"text"',
    b"1e999",
    b"[" * 100_000,
    b'{"p":"1","m":"x","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"p":"1","m":"x","deep":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b'{"p":"1","p":"2","m":"duplicate keys","m":"again"}',
    b'{"p":"1","m":"x","m":null}',
    b'{"p":NaN,"m":"x"}',
    b'{"p":"1","m":"x","t":NaN}',
    b'{"p":"1","m":"x","t":-Infinity}',
    b'{"p":"1","m":"x","t":1e308}',
    b'{"p":"1","m":"x","t":-1}',
    b'{"p":"1","m":"x","t":"1700000000"}',
    b'{"p":"1","m":"x","i":"5"}',
    b'{"p":"1","m":"x","i":5.0}',
    b'{"p":"1","m":"x","i":true}',
    b'{"p":"1","m":"x","i":-1}',
    b'{"p":"1","m":"x","i":9223372036854775807,"r":"r"}',
    b'{"p":"1","m":"x","i":18446744073709551615,"r":"r"}',
    b'{"p":"1","m":"x","i":99999999999999999999999999,"r":"r"}',
    b'{"p":"1","m":"x","r":"../../etc/passwd","i":0}',
    b'{"p":"1","m":"x","r":"a\\nb\\u001b[31m","i":0}',
    b'{"p":"1","m":"x","r":5,"i":0}',
    b'{"p":5511999990000,"m":"x"}',
    b'{"p":["1"],"m":"x"}',
    b'{"p":"1","m":{"text":"x"}}',
    b'{"p":"","m":"x"}',
    b'{"p":" ","m":" "}',
    b'{"p":"\\ud800","m":"lone surrogate"}',
    b'{"p":"\\ud83d\\ude00","m":"a pair"}',
    b'{"p":"\\u0000\\u0007\\u001b[2J\\r\\n","m":"\\u0000\\u009b\\u202e\\u2028"}',
    b'{"p":"raw \x1b[31m","m":"control"}',
    b'{"p":"1","m":"x","id":"line\\nbreak\\r\\u0000\\u001b]0;title\\u0007"}',
    b'{"p":"1","m":"x","id":"%s %d %(name)s {0} \\u0085 \\u2028"}',
    b'{"p":"1","m":"x","id":"' + b"long" * 5000 + b'"}',
    b'{"p":"1","m":"x","id":5}',
    b'{"p":"1","m":"x","id":""}',
    b"{'p':'1','m':'python'}",
    '{"p":"１","m":"ﷺ 👩‍👩‍👧‍👦 ￿"}'.encode(),
    '{"p":"1","m":"utf-16"}'.encode("utf-16"),
    filled_up(MIB),
    filled_up(MIB + 1),
    FINE + b" trailing",
    b"\n\t " + FINE + b"\n",
]

texts = st.text(st.characters(codec="utf-8"), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("p", "m", "i", "r", "t", "id", "other"), texts | values)
).map(lambda keys: json.dumps(keys).encode())
likely = st.fixed_dictionaries(
    {"p": texts, "m": texts}, optional={"i": st.integers(), "r": texts, "t": st.floats(), "id": texts}
).map(lambda keys: json.dumps(keys, ensure_ascii=False).encode())


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """A message with some bytes replaced, inserted or cut off."""
    body = bytearray(draw(likely))
    at = draw(st.integers(0, max(0, len(body) - 1)))
    body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


bodies = st.lists(st.binary(max_size=200) | objects | likely | mutilated(), min_size=20, max_size=60)


class Talkative(Stack):
    """A stack whose workers log each task with its id."""

    def add_worker(self, number: int) -> Service:
        worker = super().add_worker(number)
        worker.argv[worker.argv.index("WARNING")] = "INFO"
        return worker


class Pipeline:
    """One stack for all the tests of a queue, and what was sent through it so far."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.pids = self._pids()
        self.sent: Counter[bytes] = Counter()
        self.broker = Redis(port=stack.ports["broker"])
        self.client: Any
        if stack.queue == "REDIS":
            self.client = Redis(port=stack.ports["redis"])
        else:
            self.client = boto3.client(
                "sqs",
                endpoint_url=stack.environment["AWS_ENDPOINT_URL_SQS"],
                region_name="us-east-1",
                aws_access_key_id="x",
                aws_secret_access_key="y",
            )
            self.url = self.client.get_queue_url(QueueName="phone_numbers")["QueueUrl"]

    def send(self, body: bytes) -> str:
        """Put a message into the queue; return AWS's error where SQS does not take it."""
        if self.stack.queue == "REDIS":
            self.client.rpush("phone_numbers", body)
        else:
            try:
                text = body.decode()
            except UnicodeDecodeError:
                return "no text"
            try:
                self.client.send_message(QueueUrl=self.url, MessageBody=text)
            except ClientError as error:
                return str(error.response["Error"]["Code"])
        self.sent[body] += 1
        return ""

    def assert_all_shipped_or_kept(self) -> None:
        broken = Counter({body: count for body, count in self.sent.items() if not is_message(body)})
        give_up_at = time.monotonic() + 60
        while self.arrived() + self.kept() < self.sent.total():
            assert time.monotonic() < give_up_at, (self.arrived(), self.kept(), self.sent.total())
            time.sleep(0.05)
        records: Any = self.broker.lrange(KEY, 0, -1)
        letters = [DeadLetter.decode(record) for record in records]
        assert Counter(letter.body for letter in letters) == broken
        assert all(letter.reason for letter in letters)
        assert self.arrived() == self.sent.total() - broken.total()
        assert self._pids() == self.pids

    def arrived(self) -> int:
        return (self.stack.folder / "endpoint.log").read_bytes().count(b"\n")

    def kept(self) -> int:
        count: Any = self.broker.llen(KEY)
        return int(count)

    def _pids(self) -> dict[str, int]:
        """Return the process of each service that runs."""
        running = [(name, s.process) for name, s in self.stack.services.items() if s.exit_code() is None]
        return {name: process.pid for name, process in running if process is not None}


def is_message(body: bytes) -> bool:
    try:
        decode(body)
    except MessageError:
        return False
    return True


@contextmanager
def running(folder: Path, queue: str) -> Iterator[Pipeline]:
    quick = {"PUSH_SECONDS": "0", "WORKER_SLOTS": "50"}
    with Talkative(folder, queue, settings=quick, sqs_options=["--latency", "0"]) as stack:
        yield Pipeline(stack)


@pytest.fixture(scope="module", params=["REDIS", "SQS"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(tmp_path_factory.mktemp("bad"), request.param) as pipeline:
        yield pipeline


# What is not UTF-8 no client can send; the rest is AWS's, "SendMessage", errors.
REFUSALS = {"", "no text", "InvalidMessageContents", "MissingParameter", "InvalidParameterValue"}


def test_a_corpus_of_bad_messages_is_shipped_or_kept(pipeline: Pipeline) -> None:
    for body in CORPUS:
        refusal = pipeline.send(body)
        assert refusal in REFUSALS, body[:100]
        if pipeline.stack.queue == "SQS":
            expected = {b"": "MissingParameter", b"\x00": "InvalidMessageContents"}
            if len(body) > MIB:
                expected[body] = "InvalidParameterValue"
            assert body not in expected or refusal == expected[body]
    pipeline.assert_all_shipped_or_kept()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies)
def test_fuzzed_messages_are_shipped_or_kept(pipeline: Pipeline, fuzz: list[bytes]) -> None:
    for body in fuzz:
        assert pipeline.send(body) in REFUSALS, body
    pipeline.assert_all_shipped_or_kept()


def test_celery_calls_that_cannot_be_run_are_kept(pipeline: Pipeline) -> None:
    before = pipeline.kept()
    celery = Celery(broker=pipeline.stack.environment["REDIS_CELERY_URL"])
    calls: list[list[Any]] = [["only a phone number"], ["\ud800", "lone surrogate"], ["1", "2"] * 5]
    for arguments in calls:
        celery.send_task("push_data", arguments)
    give_up_at = time.monotonic() + 60
    while pipeline.kept() < before + len(calls):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    for number in range(before, pipeline.kept()):
        record: Any = pipeline.broker.lindex(KEY, number)
        letter = DeadLetter.decode(record)
        # The whole envelope, so that it can be sent again.
        arguments, *_ = json.loads(b64decode(json.loads(letter.body)["body"]))
        assert arguments in calls and re.match("TypeError|MessageError", letter.reason), letter.reason
    if before:
        pipeline.broker.ltrim(KEY, 0, before - 1)
    else:
        pipeline.broker.delete(KEY)


def test_after_all_that_a_good_message_ships_and_no_log_has_an_unescaped_character(
    pipeline: Pipeline,
) -> None:
    before = pipeline.arrived()
    assert pipeline.send(FINE) == ""
    # Whichever of the tests above ran on this stack.
    assert pipeline.send(b'{"p":"1","m":"x","id":"line\\nbreak\\r\\u0000\\u001b]0;title\\u0007"}') == ""
    pipeline.assert_all_shipped_or_kept()
    assert pipeline.arrived() == before + 2
    logs = sorted((pipeline.stack.folder / "logs").glob("*.log"))
    assert {log.stem for log in logs} == set(pipeline.stack.services)
    for log in logs:
        text = log.read_bytes().decode()
        wild = {character for character in text if not character.isprintable()} - {"\n"}
        assert not wild, (log.name, wild)
        # Celery tells of the calls that could not be run.
        assert "Traceback" not in text or log.name.startswith("worker"), log.name
    assert r"[line\nbreak\r\x00\x1b]0;title\x07]" in (logs[-1].parent / "worker-1.log").read_text()


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_two_ids_never_share_an_idempotency_key(one: str, other: str) -> None:
    keys = {
        idempotency_key(one),
        idempotency_key(other),
        idempotency_key(one * 50),
        idempotency_key(one * 51),
    }
    assert len(keys) == len({one, other, one * 50, one * 51})
    assert all(key.isascii() and key.isprintable() and len(key) <= 2000 for key in keys)
