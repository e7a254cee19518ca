"""Dead letters: listed without harm, sent again without loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from typing import Any

import pytest
from redis import Redis

from queuebench.bench.stack import Stack
from queuebench.broker.broker import Broker
from queuebench.broker.dead_letters import KEY, DeadLetter, of_message, of_task
from queuebench.errors import Unreachable
from queuebench.message import Message, decode
from queuebench.pipeline.hand_over import Envelope
from queuebench.queues import open_queue
from queuebench.settings import load
from tests import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(params=["REDIS", "SQS"])
def environment(request: pytest.FixtureRequest, servers: Stack, redis: Redis) -> dict[str, str]:
    """Settings for a queue of the test's own, and a broker beside it."""
    name = f"dead-{os.urandom(4).hex()}"
    return {
        **servers.environment,
        "QUEUE": request.param,
        "REDIS_CELERY_URL": servers.environment["REDIS_PUBSUB_URL"],
        "CHANNEL_NAME": name,
        "QUEUE_NAME": name,
    }


def command(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "queuebench", "dead-letters", *words]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def bury(environment: dict[str, str], *letters: DeadLetter) -> Broker:
    broker = Broker(environment["REDIS_CELERY_URL"])
    for letter in letters:
        broker.add_dead_letter(letter)
    return broker


def received(environment: dict[str, str]) -> list[bytes]:
    settings = load(environment)
    queue = open_queue(settings.queue, settings.options())
    bodies: list[bytes] = []
    try:
        queue.check()
        while (batch := queue.receive(0, 1.0)) is not None:
            bodies += batch.bodies
            queue.acknowledge(batch)
    finally:
        queue.close()
    return bodies


def test_none_are_said_to_be_none(environment: dict[str, str]) -> None:
    listed, sent = command(environment), command(environment, "resend")
    assert (listed.returncode, sent.returncode) == (0, 0)
    assert "0 dead letters" in listed.stdout and "0 of 0 dead letters" in sent.stdout


def test_a_list_has_a_line_for_each_with_its_reason_and_nothing_that_moves_the_cursor(
    environment: dict[str, str],
) -> None:
    bury(
        environment,
        DeadLetter("not JSON: \x1b[31m", b"\x1b]0;title\x07\r\n\xff", id="a\nb"),
        DeadLetter("the endpoint answered 400", "{\u202e}".encode(), id="x-5", run="x", number=5),
        *(DeadLetter(f"reason {number}", b"x" * 5000) for number in range(1500)),
    ).client.rpush(KEY, b"not a record \x00\xff")
    listed = command(environment, "list")
    assert listed.returncode == 0
    lines = listed.stdout.split("\n")
    assert len(lines) == 1503 + 2
    assert all(line.isprintable() for line in lines)
    assert r"a\nb: not JSON: \x1b[31m: \x1b]0;title\x07\r\n\xff" in lines[0]
    assert r"x-5: the endpoint answered 400: {\u202e}" in lines[1]
    assert "reason 1499" in lines[1501] and len(lines[1501]) < 200
    assert lines[1502].startswith("not a dead letter's record: not a record")
    assert lines[1503].startswith("1,503 dead letters")


def test_messages_go_through_the_queue_again_and_are_no_dead_letters_any_more(
    environment: dict[str, str],
) -> None:
    messages = [decode(b'{"p":"1","m":"ol\\u00e1","r":"run","i":%d}' % number) for number in range(25)]
    messages.append(Message("mine", "2", "text"))
    bury(environment, *(of_message(message, "the endpoint answered 400") for message in messages))
    sent = command(environment, "resend")
    assert sent.returncode == 0, sent.stderr
    assert "26 of 26 dead letters sent again" in sent.stdout
    assert sorted(map(decode, received(environment))) == sorted(messages)
    assert "0 dead letters" in command(environment).stdout


def test_a_task_goes_into_its_celery_queue_as_if_it_had_killed_nobody(environment: dict[str, str]) -> None:
    from queuebench.pipeline.app import push_data

    envelope = Envelope(push_data, ("phone", "text")).stamp("run-7", ("1", "hello"), {})
    killed = b'{"deaths": 5, ' + envelope[1:]
    broker = bury(environment, of_task(killed, "5 workers died running it"))
    assert command(environment, "resend").returncode == 0
    records: Any = broker.client.lrange("celery", 0, -1)
    (record,) = records
    assert json.loads(record) == json.loads(envelope)
    assert broker.count_dead_letters() == 0


def test_what_cannot_be_sent_stays_and_is_said(environment: dict[str, str]) -> None:
    refused = [
        DeadLetter("not JSON", b"hello\xff"),
        DeadLetter("p is missing", b'{"m":"x"}'),
        DeadLetter("no envelope", b"[1]", kind="task"),
    ]
    if environment["QUEUE"] == "SQS":
        refused.append(DeadLetter("answered 400", '{"p":"1","m":"\uffff"}'.encode()))
    fine = DeadLetter("answered 400", b'{"p":"1","m":"fine","id":"f"}')
    broker = bury(environment, *refused[:1], fine, *refused[1:], fine)
    sent = command(environment, "resend")
    assert sent.returncode == 1
    assert f"2 of {len(refused) + 2} dead letters sent again" in sent.stdout
    stayed = sent.stderr.splitlines()
    assert len(stayed) == len(refused) and all(line.startswith("stays: ") for line in stayed)
    assert "p is missing" in stayed[1] and "no Celery task" in stayed[2]
    if environment["QUEUE"] == "SQS":
        assert "InvalidMessageContents" in stayed[3]
    assert [DeadLetter.decode(r).body for r in broker.dead_letters()] == [letter.body for letter in refused]
    assert received(environment) == [fine.body] * 2


def test_a_resend_that_is_killed_loses_none(environment: dict[str, str]) -> None:
    bodies = [b'{"p":"1","m":"x","id":"%d"}' % number for number in range(3000)]
    broker = bury(environment)
    broker.client.rpush(KEY, *(DeadLetter("why", body).encode() for body in bodies))
    argv = [sys.executable, "-m", "queuebench", "dead-letters", "resend"]
    with subprocess.Popen(argv, cwd=ROOT, env=environment) as resend:
        while broker.count_dead_letters() > 2900:
            assert resend.poll() is None
        resend.kill()
    left = [DeadLetter.decode(record).body for record in broker.dead_letters()]
    assert 0 < len(left) < 3000
    arrived = received(environment)
    assert set(arrived) | set(left) == set(bodies)
    assert len(arrived) + len(left) <= 3001


def test_a_broker_that_is_away_is_one_line(environment: dict[str, Any]) -> None:
    away = environment | {"REDIS_CELERY_URL": "redis://127.0.0.1:1/0"}
    for words in ((), ("resend",)):
        done = command(away, *words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "does not answer" in done.stderr


def test_tasks_of_any_client_and_failed_ones_are_sent_again(environment: dict[str, str]) -> None:
    # As celery-php and gocelery send them: protocol 1, whose headers are left out, null or a list.
    call = {"task": "push_data", "id": "a", "args": ["1", "x"], "kwargs": {}, "retries": 0, "eta": None}
    body = b64encode(json.dumps(call).encode()).decode()
    properties = {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": None}
    envelopes: list[dict[str, Any]] = [
        {"body": "not base64", "headers": {"id": "b"}, "properties": {}},
        {"body": body, "content-type": "application/json", "properties": properties},
        {"body": body, "content-type": "application/json", "headers": [], "properties": properties},
        {
            "body": body,
            "headers": None,
            "properties": {"delivery_info": {"routing_key": ["odd"], "priority": 3}},
        },
    ]
    calls = [
        DeadLetter("x", b'{"task": "push_data", "args": ["1"], "kwargs": {}}', "task", "call-id"),
        DeadLetter("no envelope", json.dumps(call).encode(), "task"),
        DeadLetter("no envelope", b'{"task": "push_data", "kwargs": null}', "task", "bare"),
    ]
    stays = [
        {"body": "e30="},
        {"task": "push_data", "args": 5},
        {"task": ["push_data"], "args": []},
        {"task": "push_data", "args": [], "kwargs": [1]},
    ]
    broker = bury(
        environment,
        *calls,
        *(DeadLetter("why", json.dumps(envelope).encode(), "task") for envelope in [*envelopes, *stays]),
    )
    # What another project's Celery is told does not matter.
    elsewhere = {"CELERY_BROKER_URL": "redis://127.0.0.1:1", "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1"}
    elsewhere |= {"CELERY_CONFIG_MODULE": "nowhere", "CELERY_LOADER": "nowhere"}
    sent = command(environment | elsewhere, "resend")
    assert sent.returncode == 1 and sent.stderr.count("no Celery task") == len(stays), sent.stderr
    assert "Traceback" not in sent.stderr
    records: Any = broker.client.lrange("celery", 0, -1)
    back = [json.loads(record) for record in reversed(records)]
    assert [one["headers"]["id"] for one in back[:3]] == ["call-id", "a", "bare"]
    assert all(one["headers"]["task"] == "push_data" for one in back[:3])
    assert back[3:] == envelopes
    assert broker.count_dead_letters() == len(stays)


def test_dead_letters_are_read_a_mib_at_a_time_and_what_no_client_may_fetch_comes_without_its_body(
    redis: Redis, redis_url: str
) -> None:
    broker = Broker(redis_url)
    sizes = [10, 900_000, 20, 700_000, 5_000_000, 30] * 3
    for number, size in enumerate(sizes):
        broker.add_dead_letter(DeadLetter("why", b"x" * size, run="run", number=number))

    def read() -> list[int]:
        letters = [DeadLetter.decode(record) for record in broker.dead_letters()]
        assert [letter.number for letter in letters] == list(range(len(sizes)))
        return [len(letter.body) for letter in letters]

    assert read() == sizes
    redis.config_set("client-output-buffer-limit", "normal 2097152 0 0")
    try:
        with pytest.raises(Unreachable):
            read()
        assert read() == [size if size < 2**20 else 0 for size in sizes]
        assert len(list(broker.dead_letters(3, 5))) == 3
    finally:
        redis.config_set("client-output-buffer-limit", "normal 0 0 0")
