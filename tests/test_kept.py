"""Nothing is acknowledged before its dead letter is kept: real workers, and brokers that won't keep it."""

from __future__ import annotations

import json
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from queuebench.bench.stack import Service, Stack
from queuebench.broker.broker import CELERY_QUEUE, Broker
from queuebench.broker.dead_letters import KEY, DeadLetter
from queuebench.errors import Unreachable
from queuebench.message import Message
from queuebench.pipeline.hand_over import HandOver
from queuebench.pipeline.worker import MOST_WAITING
from tests.scripted_endpoint import OK, Scripted, says, status

pytestmark = pytest.mark.slow


class Place:
    """A broker, an endpoint that refuses, and a worker."""

    def __init__(self, folder: Path, pool: str, per_task: int) -> None:
        self.endpoint = Scripted(says(status(400)))
        self.stack = Stack(folder, "REDIS", pool=pool)
        self.stack.environment |= {"PUSH_URL": self.endpoint.url, "WORKER_SLOTS": "4", "MONITOR_URL": ""}
        self.stack.environment |= {"PUSH_TRIES": "1", "SHIPMENTS_PER_TASK": str(per_task)}
        self.stack.add_redis("broker").start()
        self.per_task = per_task
        self.url = self.stack.environment["REDIS_CELERY_URL"]
        self.redis = Redis.from_url(self.url)
        self.celery = Celery(broker=self.url)

    def worker(self, url: str = "") -> Service:
        service = self.stack.add_worker(1)
        service.environment |= {"REDIS_CELERY_URL": url or self.url}
        service.start()
        return service

    def send(self, *numbers: int) -> None:
        fields = [(f"run-{n}", "+5511999990000", "hello", "run", n, None) for n in numbers]
        if self.per_task > 1:
            self.celery.send_task("push_several", [fields])
        else:
            for id, *rest in fields:
                self.celery.send_task("push_data", rest, task_id=id)

    def letters(self) -> list[DeadLetter]:
        if self.redis.type(KEY) != b"list":
            return []
        records: Any = self.redis.lrange(KEY, 0, -1)
        return [DeadLetter.decode(record) for record in records]

    def held(self) -> int:
        """Return how many tasks wait or are in flight."""
        return sum(Broker(self.url).backlog())

    def close(self) -> None:
        self.stack.close()
        self.endpoint.close()


def until(done: Callable[[], object], seconds: float = 60.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up_at, "it did not come to it"
        time.sleep(0.02)


@pytest.fixture(params=[("gevent", 1), ("gevent", 10), ("threads", 1)], ids=str)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, *request.param)
    yield made
    made.close()


def test_a_dead_letter_that_cannot_be_written_is_waited_for_and_given_back_by_a_stop(place: Place) -> None:
    place.redis.sadd(KEY, "in the way")
    worker = place.worker()
    place.send(1, 2, 3)
    until(lambda: len(set(place.endpoint.keys())) == 3)
    until(lambda: "dead letters can't be kept" in worker.output())
    time.sleep(1.5)
    assert place.held() > 0
    assert worker.stop(30) == 0
    assert place.held() > 0
    assert worker.output().count("can't be kept") == 1
    worker.start()
    until(lambda: "dead letters can't be kept" in worker.output())
    place.redis.delete(KEY)
    until(lambda: {letter.id for letter in place.letters()} == {"run-1", "run-2", "run-3"})
    until(lambda: place.held() == 0)
    until(lambda: "dead letters are kept again" in worker.output())
    assert all(letter.reason == "the endpoint answered 400" for letter in place.letters())


@pytest.mark.parametrize("place", [("gevent", 1)], indirect=True, ids=str)
@pytest.mark.parametrize("how", ["NOREPLICAS", "READONLY", "OOM", "ACL"])
def test_whatever_keeps_a_dead_letter_out_it_is_kept_afterwards(place: Place, how: str) -> None:
    refuse, mend = {
        "NOREPLICAS": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        "READONLY": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        "OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        "ACL": ("ACL SETUSER me resetkeys ~celery* ~_*", "ACL SETUSER me ~*"),
    }[how]
    place.redis.execute_command("ACL", "SETUSER", "me", "on", "nopass", "~*", "&*", "+@all")

    def answer(line: Any, _: int) -> None:
        place.redis.execute_command(*refuse.split())
        line.sendall(status(400))

    place.endpoint.answer = answer
    worker = place.worker(place.url.replace("redis://", "redis://me:x@"))
    place.send(1)
    until(lambda: "dead letters can't be kept" in worker.output())
    time.sleep(1.0)
    place.redis.execute_command(*mend.split())
    until(lambda: {letter.id for letter in place.letters()} == {"run-1"})
    until(lambda: place.held() == 0)


@pytest.mark.parametrize("place", [("gevent", 1)], indirect=True, ids=str)
def test_whatever_the_arguments_of_a_task_it_is_shipped_or_kept(place: Place) -> None:

    def answer(line: Any, _: int) -> None:
        time.sleep(0.3)
        line.sendall(OK)

    place.endpoint.answer = answer
    place.worker()
    nan, phone = float("nan"), "+5511999990000"
    shipped = [
        {"handed_over_at": nan},
        {"handed_over_at": float("inf")},
        {"handed_over_at": "soon"},
        {"intended_at": nan},
        {"intended_at": -1e308},
        {"intended_at": "x\r\nInjected: y"},
    ]
    for number, options in enumerate(shipped):
        # Neither does a caller's limit end a POST.
        place.celery.send_task(
            "push_data", [phone, "hello"], options, task_id=f"shipped-{number}", time_limit=0.1, expires=300
        )
    kept: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("push_data", [], {}),
        ("push_data", [phone, "hello"], {"unknown": 1}),
        ("push_data", [{"a": 1}, 5], {}),
        ("push_data", [phone, "hello"], {"number": 10**30}),
        ("push_data", [phone, "hello"], {"run": ["x"]}),
        ("push_data", [phone, "\udcff"], {}),
        ("push_several", [5], {}),
        ("push_several", [[["too few"]]], {}),
        ("push_several", [[[None] * 6]], {"handed_over_at": nan}),
    ]
    for number, (name, arguments, options) in enumerate(kept):
        place.celery.send_task(name, arguments, options, task_id=f"kept-{number}")
    # What no Celery client makes: bodies that are no arguments.
    record = json.loads(_envelope(place))
    bodies: list[list[Any]] = [[5, {}, {}], [[phone, "x"], [], {}], [[phone, "x"], None, {}]]
    bodies.append([[phone, "x"], {}, 5])
    for number, body in enumerate(bodies):
        record["headers"]["id"] = f"kept-{len(kept) + number}"
        record["body"] = b64encode(json.dumps(body).encode()).decode()
        record["properties"]["delivery_tag"] = f"odd-{number}"
        place.redis.lpush(CELERY_QUEUE, json.dumps(record))
    # Nor headers like these: times beyond all clocks, and what Celery would neither begin nor end.
    beyond = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
    odd_headers = [{"eta": at} for at in beyond] + [
        {"eta": {}},
        {"expires": 5},
        {"shadow": ["x"]},
        {"id": []},
    ]
    record["body"] = json.loads(_envelope(place))["body"]
    headers = record["headers"]
    for number, odd in enumerate(odd_headers):
        record["headers"] = headers | {"id": f"odd-{number}"} | odd
        record["properties"]["delivery_tag"] = f"header-{number}"
        place.redis.lpush(CELERY_QUEUE, json.dumps(record))
    until(lambda: place.held() == 0)
    ids = {f"kept-{number}" for number in range(len(kept) + len(bodies))} | {
        f"odd-{number}" for number in range(5)
    }
    assert {letter.id for letter in place.letters()} == ids | {"[]"}
    assert not any(b"\nInjected" in request for request in place.endpoint.requests)
    assert sorted(place.endpoint.keys()) == [f"shipped-{number}" for number in range(len(shipped))]
    until(lambda: place.held() == 0)
    for letter in place.letters():
        assert letter.kind == "task" and str(json.loads(letter.body)["headers"]["id"]) == letter.id


def _envelope(place: Place) -> bytes:
    other = Celery(broker=place.url)
    other.send_task("push_data", ["1", "2"], queue="aside")
    record: Any = place.redis.lpop("aside")
    return bytes(record)


@pytest.mark.parametrize("place", [("gevent", 1), ("gevent", 10)], indirect=True, ids=str)
def test_what_waits_is_beside_the_slots_bounded_and_survives_a_kill(place: Place) -> None:
    def answer(line: Any, number: int) -> None:
        late = any(b"run-%d\r\n" % n in place.endpoint.requests[number] for n in range(30))
        line.sendall(status(503, "Retry-After: 100\r\n") if late and not go.exists() else OK)

    go = Path(place.stack.folder) / "go"
    place.endpoint.answer = answer
    worker = place.worker()
    for first in range(0, 60, 10):
        place.send(*range(first, first + 10))
    until(lambda: {f"run-{n}" for n in range(60)} <= set(place.endpoint.keys()))
    worker.kill()
    go.touch()
    before = len(place.endpoint.keys())
    worker.start()
    until(lambda: {f"run-{n}" for n in range(30)} <= set(place.endpoint.keys()[before:]))
    until(lambda: place.held() == 0)
    assert not place.letters()


@pytest.mark.parametrize("place", [("gevent", 1)], indirect=True, ids=str)
def test_no_more_than_a_thousand_tasks_wait_for_their_next_try(place: Place) -> None:
    place.endpoint.answer = says(status(503, "Retry-After: 300\r\n"))
    place.worker()
    beyond, most = 50, 4 + MOST_WAITING  # slots, and what waits
    with place.celery.producer_pool.acquire() as producer:
        for number in range(most + beyond):
            place.celery.send_task(
                "push_data", ["1", "x"], task_id=str(number), producer=producer, argsrepr="", kwargsrepr=""
            )
    broker = Broker(place.url)
    until(lambda: len(set(place.endpoint.keys())) >= MOST_WAITING)
    until(lambda: broker.backlog() == (beyond, most))
    # The slots are free, and what is beyond the bound is left to others all the same.
    time.sleep(1.0)
    assert broker.backlog() == (beyond, most)
    assert len(place.endpoint.requests) <= most


@pytest.mark.parametrize("place", [("gevent", 1), ("threads", 1)], indirect=True, ids=str)
def test_a_worker_ends_in_time_whatever_its_endpoint_does(place: Place) -> None:
    def drip(line: Any, _: int) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not place.endpoint.ended.wait(0.1):
            line.sendall(b"y")

    place.endpoint.answer = drip
    place.stack.environment |= {"PUSH_TIMEOUT": "2"}
    worker = place.worker()
    place.send(*range(8))
    until(lambda: len(place.endpoint.requests) >= 4)
    worker.signal(signal.SIGTERM)
    assert worker.process is not None and worker.process.wait(20) == 0
    assert place.held() + len(place.letters()) == 8


def test_a_subscribers_dead_letters_are_waited_for_and_kept_once(redis: Redis, redis_url: str) -> None:
    from queuebench.pipeline.app import push_data, push_several

    redis.sadd(KEY, "in the way")
    hand_over = HandOver(Broker(redis_url), push_data, push_several)
    broken = [DeadLetter("not JSON", b"hello")]
    for _ in range(3):
        with pytest.raises(Unreachable, match="dead letters can't be kept"):
            hand_over.hand_over([Message("a", "1", "x")], broken, 1)
    assert redis.llen(CELERY_QUEUE) == 0
    redis.delete(KEY)
    for _ in range(3):
        hand_over.hand_over([Message("a", "1", "x")], broken, 1)
    assert redis.llen(KEY) == 1 and redis.llen(CELERY_QUEUE) == 1
    hand_over.hand_over([], broken, 2)
    assert redis.llen(KEY) == 2
