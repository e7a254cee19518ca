"""What every queue promises, held by each of them on a real server."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from queuebench.bench.stack import Stack
from queuebench.errors import MessageError, QueueError, SettingsError, Unreachable
from queuebench.message import decode
from queuebench.plumbing.redis_client import PushOnce, connect, longest_reply
from queuebench.queues import Queue, open_queue
from queuebench.queues.redis_list import RECEIVE_BYTES
from queuebench.queues.sqs import Sqs
from queuebench.settings import load
from tests.conftest import Opener

UNICODE = ["plain", "Olá, você", "日本語", "emoji 🚀🧵", '"quotes" \\ and \n', "עברית", "\u2028", "é" * 1000]


def drain(queue: Queue, expected: int, seconds: float = 10.0) -> list[bytes]:
    """Receive and acknowledge until so many messages came, or time is up."""
    bodies: list[bytes] = []
    give_up_at = time.monotonic() + seconds
    lane = 0
    while len(bodies) < expected and time.monotonic() < give_up_at:
        batch = queue.receive(lane % queue.receivers, 0.5)
        lane += 1
        if batch is not None:
            bodies.extend(batch.bodies)
            queue.acknowledge(batch)
    return bodies


def test_any_unicode_comes_back_as_it_was_sent(open_fresh: Opener) -> None:
    queue = open_fresh()
    sent = [text.encode() for text in UNICODE]
    assert list(queue.publish(sent, 0, 1)) == []
    assert sorted(drain(queue, len(sent))) == sorted(sent)


def test_a_batch_keeps_its_order(open_fresh: Opener) -> None:
    queue = open_fresh()
    sent = [b"message %d" % number for number in range(10)]
    queue.publish(sent, 0, 1)
    batch = queue.receive(0, 2)
    assert batch is not None
    assert list(batch.bodies) == sent


def test_an_empty_receive_returns_after_the_wait(open_fresh: Opener) -> None:
    queue = open_fresh()
    began = time.monotonic()
    assert queue.receive(0, 1) is None
    assert 0.9 <= time.monotonic() - began < 5


def test_a_waiting_receive_wakes_when_a_message_comes(open_fresh: Opener) -> None:
    queue = open_fresh()
    timer = threading.Timer(0.3, lambda: queue.publish([b"late"], 0, 1))
    timer.start()
    batch = queue.receive(0, 5)
    timer.join()
    assert batch is not None
    assert list(batch.bodies) == [b"late"]
    # The 0.3 s before are no part of what taking it took, where the queue can tell.
    assert batch.fetch_seconds is None or batch.fetch_seconds < 0.25


def test_no_two_consumers_share_a_message(open_fresh: Opener) -> None:
    first, second = open_fresh(), open_fresh()
    sent = [b"%d" % number for number in range(100)]
    for start in range(0, 100, 10):
        first.publish(sent[start : start + 10], 0, start + 1)
    received: list[bytes] = []
    for _ in range(40):
        for queue in (first, second):
            batch = queue.receive(0, 0)
            if batch is not None:
                received.extend(batch.bodies)
                queue.acknowledge(batch)
    assert sorted(received) == sorted(sent)


def test_two_lanes_of_one_consumer_share_nothing_either(open_fresh: Opener) -> None:
    queue = open_fresh()
    queue.publish([b"%d" % number for number in range(10)], 0, 1)
    first = queue.receive(0, 1)
    assert first is not None
    assert queue.receive(1, 0) is None


def test_acknowledge_removes(open_fresh: Opener) -> None:
    queue = open_fresh()
    queue.publish([b"once"], 0, 1)
    assert drain(queue, 1) == [b"once"]
    time.sleep(1.5)  # longer than what is in flight may stay there
    assert queue.receive(0, 0) is None
    assert sum(queue.depth()) == 0


def test_what_is_not_acknowledged_comes_back(open_fresh: Opener) -> None:
    dead, alive = open_fresh(), open_fresh()
    dead.publish([b"a", b"b", b"c"], 0, 1)
    batch = dead.receive(0, 1)
    assert batch is not None
    if hasattr(dead, "stop_renewing"):
        dead.stop_renewing()
    assert sorted(drain(alive, 3)) == [b"a", b"b", b"c"]


def test_closing_gives_back_or_leaves_to_the_timeout_what_was_not_acknowledged(open_fresh: Opener) -> None:
    first = open_fresh()
    first.publish([b"kept"], 0, 1)
    assert first.receive(0, 1) is not None
    first.close()
    assert drain(open_fresh(), 1) == [b"kept"]


def test_a_late_acknowledgement_harms_nobody(open_fresh: Opener) -> None:
    slow, other = open_fresh(), open_fresh()
    slow.publish([b"x"], 0, 1)
    late = slow.receive(0, 1)
    assert late is not None
    if hasattr(slow, "stop_renewing"):
        slow.stop_renewing()
    assert drain(other, 1) == [b"x"]
    slow.acknowledge(late)
    other.publish([b"y"], 0, 1)
    assert drain(slow, 1) == [b"y"]


def test_creating_twice_is_no_error(open_fresh: Opener) -> None:
    open_fresh().check()
    open_fresh().check()


def test_depth_tells_waiting_from_in_flight(open_fresh: Opener) -> None:
    queue = open_fresh()
    queue.publish([b"1", b"2", b"3"], 0, 1)
    assert tuple(queue.depth()) == (3, 0)
    assert queue.receive(0, 1) is not None
    assert tuple(queue.depth()) == (0, 3)


def test_an_unknown_queue_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"KAFKA.*REDIS, SQS"):
        open_queue("KAFKA", {})


def test_a_repeated_batch_is_published_once_where_the_queue_can_tell(open_fresh: Opener) -> None:
    queue = open_fresh()
    for _ in range(3):
        queue.publish([b"1", b"2"], 0, 1)
    queue.publish([b"3"], 0, 2)
    exact = not isinstance(queue, Sqs) or queue.name.endswith(".fifo")
    assert len(drain(queue, 3 if exact else 7)) == (3 if exact else 7)


def test_a_send_that_was_only_delayed_is_void_once_its_repetition_went_through(
    redis: Redis, redis_url: str
) -> None:
    push = PushOnce(connect(redis_url), "list", "RPUSH", "marker")
    assert push.push([b"1"], 1)
    # The next batch leaves on this connection, and arrives after its repetition on another one.
    delayed = PushOnce(connect(redis_url), "list", "RPUSH", "marker")
    delayed._connection, push._connection = push._connection, None
    assert push.push([b"2"], 2)
    assert not delayed._transact([b"2"], 2)
    assert redis.lrange("list", 0, -1) == [b"1", b"2"]


def test_a_push_survives_that_its_idle_connection_was_closed(redis: Redis, redis_url: str) -> None:
    push = PushOnce(connect(redis_url), "list", "RPUSH", "marker")
    push.push([b"1"], 1)
    redis.client_kill_filter(_type="normal", skipme=True)
    assert push.push([b"2"], 2)
    assert redis.lrange("list", 0, -1) == [b"1", b"2"]


def test_many_large_values_keep_their_order(redis: Redis, redis_url: str) -> None:
    values = [b"%d" % number * 5_000 for number in range(100, 300)]
    assert PushOnce(connect(redis_url), "list", "RPUSH", "marker").push(values, 1)
    assert redis.lrange("list", 0, -1) == values


def test_what_is_encoded_while_it_is_sent_keeps_its_order_and_arrives_whole_or_not_at_all(
    redis: Redis, redis_url: str
) -> None:
    push = PushOnce(connect(redis_url), "list", "RPUSH", "marker")

    def encode(numbers: Sequence[int]) -> list[bytes]:
        return [b"%d" % (600 // (333 - number)) for number in numbers]

    with pytest.raises(ZeroDivisionError):
        push.push(range(400), 1, encode)
    assert not redis.exists("list")
    assert push.push(range(333), 2, encode)
    assert redis.lrange("list", 0, -1) == encode(range(333))


def test_a_list_of_another_type_is_explained(redis: Redis, redis_url: str) -> None:
    name = uuid.uuid4().hex
    redis.set(name, "a string")
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": name})
    with pytest.raises(QueueError, match="holds a string, not a list"):
        queue.check()


def test_a_redis_that_is_not_there_is_unreachable() -> None:
    queue = open_queue("REDIS", {"redis_pubsub_url": "redis://127.0.0.1:1/0", "channel_name": "x"})
    with pytest.raises(Unreachable, match=r"redis://127.0.0.1:1/0 does not answer"):
        queue.check()


def test_a_redis_at_its_maxmemory_is_a_passing_fault_and_can_still_be_drained(
    redis: Redis, redis_url: str
) -> None:
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": uuid.uuid4().hex})
    queue.publish([b"x" * 1000] * 1000, 0, 1)
    used: Any = redis.info("memory")
    redis.config_set("maxmemory", used["used_memory"])
    try:
        with pytest.raises(Unreachable, match="maxmemory"):
            queue.publish([b"y" * 1000] * 1000, 0, 2)
        assert len(drain(queue, 1000)) == 1000
    finally:
        redis.config_set("maxmemory", 0)
        queue.close()


def test_a_receive_whose_reply_was_lost_is_delivered_again(redis: Redis, redis_url: str) -> None:
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": uuid.uuid4().hex})
    queue.publish([b"1", b"2"], 0, 1)
    first = queue.receive(0, 1)
    again = queue.receive(0, 1)  # as after a reply that never came: nothing was acknowledged
    assert first is not None
    assert again is not None
    assert again.bodies == first.bodies
    queue.acknowledge(again)
    assert sum(queue.depth()) == 0
    queue.close()


def test_messages_are_spread_over_several_sqs_queues(sqs: Any, servers: Any) -> None:
    names = [f"spread-{uuid.uuid4().hex[:8]}-{number}" for number in range(3)]
    queue = open_queue(
        "SQS",
        {
            "queue_names": names,
            "aws_region": "",
            "aws_endpoint_url_sqs": servers.environment["AWS_ENDPOINT_URL_SQS"],
            "local_sqs": True,
            "aws_create_queues": False,
            "sqs_threads": 2,
        },
    )
    assert queue.receivers >= 3
    for batch in range(1, 7):
        queue.publish([b"x"] * 10, 0, batch)
    for name in names:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert answer["Attributes"]["ApproximateNumberOfMessages"] == "20"
    assert len(drain(queue, 60)) == 60
    assert queue.requests()["SendMessageBatch"] == 6
    queue.close()


def test_an_sqs_that_throttles_from_the_start_can_be_tried_again(servers: Stack) -> None:
    faults = f"{servers.environment['AWS_ENDPOINT_URL_SQS']}/faults"
    queue = open_queue("SQS", load(servers.environment | {"QUEUE_NAME": "throttled"}).options())
    requests.put(faults, json={"throttling": 1.0}, timeout=5).raise_for_status()
    try:
        for attempt in (queue.check, queue.depth):
            with pytest.raises(Unreachable):
                attempt()
    finally:
        requests.put(faults, json={"throttling": 0.0}, timeout=5).raise_for_status()
    queue.check()
    assert queue.depth() == (0, 0)
    queue.close()


def test_as_many_lanes_as_there_are_threads_push_through_one_client(redis: Redis, redis_url: str) -> None:
    client = connect(redis_url)
    lanes = [PushOnce(client, "list", "RPUSH", f"marker-{lane}") for lane in range(150)]
    assert all(lane.push([b"value"], 1) for lane in lanes)
    assert redis.llen("list") == 150
    client.close()


def test_a_late_copy_of_an_acknowledgement_leaves_the_batch_after_it_alone(
    redis: Redis, redis_url: str
) -> None:
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": uuid.uuid4().hex})
    queue.publish([b"1"], 0, 1)
    first = queue.receive(0, 1)
    assert first is not None
    queue.acknowledge(first)
    queue.publish([b"2"], 0, 2)
    second = queue.receive(0, 1)
    assert second is not None
    queue.acknowledge(first)
    assert tuple(queue.depth()) == (0, 1)
    queue.acknowledge(second)
    assert tuple(queue.depth()) == (0, 0)
    queue.close()


def test_a_receive_is_bounded_in_bytes(redis: Redis, redis_url: str) -> None:
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": uuid.uuid4().hex})
    sent = [b"%d-" % n + b"x" * size for n, size in enumerate([1, 400_000, 10, 2_000_000, 5, 300_000] * 10)]
    sent += [b"%d" % n for n in range(3000)]
    for body in sent:
        redis.rpush(queue.name, body)
    received: list[bytes] = []
    while (batch := queue.receive(0, 0)) is not None:
        assert len(batch.bodies) == 1 or sum(map(len, batch.bodies)) <= RECEIVE_BYTES
        received += batch.bodies
        queue.acknowledge(batch)
    assert received == sent
    queue.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "lowered"),
    [
        (65_536, "before"),
        (3_000_000, "while it waits"),
        (65_536, "while a batch is in flight"),
        (300_000, "while a batch is in flight"),
    ],
)
def test_what_no_client_may_fetch_is_set_aside_and_said_and_the_rest_goes_on(
    tmp_path: Path, limit: int, lowered: str
) -> None:
    with Stack(tmp_path, "REDIS") as stack:
        stack.add_redis("redis").start()
        url = stack.environment["REDIS_PUBSUB_URL"]
        with Redis.from_url(url) as server:
            queue = open_queue("REDIS", {"redis_pubsub_url": url, "channel_name": "q"})
            if lowered == "while it waits":
                assert queue.receive(0, 0) is None
            sizes = [100, limit // 3, limit // 2, limit * 2, limit, limit * 3 // 4 - 17_000] * 3
            sent = [b"%d-" % number + b"x" * size for number, size in enumerate(sizes)]
            server.rpush("q", *sent)
            if lowered == "while a batch is in flight":
                assert queue.receive(0, 0) is not None
            server.config_set("client-output-buffer-limit", f"normal {limit} 0 0")
            received: list[bytes] = []
            failures = 0
            while sum(queue.depth()):
                try:
                    batch = queue.receive(0, 1)
                except Unreachable:
                    failures += 1
                    assert failures <= 2
                    continue
                assert batch is not None
                received += batch.bodies
                queue.acknowledge(batch)
            server.config_set("client-output-buffer-limit", "normal 0 0 0")
            aside: Any = server.lrange("q:set-aside", 0, -1)
            said = [body for body in received if b"set_aside" in body]
            assert len(said) == len(aside) >= 3
            assert sorted([*aside, *(body for body in received if body not in said)]) == sorted(sent)
            with pytest.raises(MessageError, match=r"it has \d+ bytes, .* kept whole in q:set-aside"):
                decode(said[0])
            queue.close()


def test_a_server_that_tells_no_limit_has_none() -> None:
    assert longest_reply("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60") == 0
    assert longest_reply(b"slave 268435456 67108864 60 normal 1048576 0 0") == 770_048
    assert longest_reply("normal 10 0 0") == 1024
    assert longest_reply("") == longest_reply("what") == longest_reply(b"\xff normal") == 0


def test_what_a_dead_consumer_held_goes_back_whole_a_part_at_a_time(redis: Redis, redis_url: str) -> None:
    name = uuid.uuid4().hex
    bodies = [b"%d" % number for number in range(2500)]
    redis.rpush(f"{name}:in-flight:dead", *bodies)
    redis.sadd(f"{name}:consumers", "dead")
    queue = open_queue("REDIS", {"redis_pubsub_url": redis_url, "channel_name": name})
    assert sorted(drain(queue, 2500)) == sorted(bodies)
    queue.close()


def test_an_option_that_no_queue_takes_is_an_error() -> None:
    options = {"redis_pubsub_url": "redis://127.0.0.1:1", "channel_name": "x", "lease_secnds": 1.0}
    with pytest.raises(SettingsError, match="lease_secnds"):
        open_queue("REDIS", options)


def test_a_visibility_timeout_too_short_for_the_hand_over_is_said(sqs: Any, servers: Stack) -> None:
    name = f"short-{uuid.uuid4().hex[:8]}"
    options = load(servers.environment | {"QUEUE_NAME": name, "SQS_QUEUES": "2"}).options()
    first = open_queue("SQS", options)
    first.check()
    assert first.warning == ""
    url = sqs.get_queue_url(QueueName=f"{name}-2")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "2"})
    second = open_queue("SQS", options)
    second.check()
    assert f"{name}-2" in second.warning and "visibility timeout of 2 s" in second.warning
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    third = open_queue("SQS", options)
    with pytest.raises(QueueError, match=f"{name}-2.* visibility timeout of 0 s"):
        third.check()
    for queue in (first, second, third):
        queue.close()
