"""Celery workers on the transport, in processes of their own, whatever happens to them."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest

from queuebench.broker import transport
from tests.transport_app import make
from tests.transport_fixtures import EVERYTHING, Server, Worker, broker, empty, server, until, work

pytestmark = pytest.mark.slow

__all__ = ["broker", "server", "work"]

POOLS = ["threads", "gevent"]


def client(broker: Server, kind: str = "stock"):
    """Return an app that publishes, by default with kombu's own transport as anyone would."""
    return make(broker.url, kind, 1, {})


def send(broker: Server, count: int, seconds: float = 0.0, first: int = 0) -> set[str]:
    """Publish `count` tasks that write down their numbers; return those."""
    app = client(broker)
    with app.producer_pool.acquire() as producer, producer.batch(500):
        for i in range(first, first + count):
            app.tasks["note"].apply_async((str(i), seconds), producer=producer)
    return {str(i) for i in range(first, first + count)}


def twice(worker: Worker) -> int:
    """Return how many runs there were beyond the first of each task."""
    results = worker.results()
    return len(results) - len(set(results))


@pytest.mark.parametrize("kind", ["leased", "stock"])
@pytest.mark.parametrize("pool", ["threads", "gevent", "prefork", "solo"])
def test_whatever_a_task_can_do_works(broker, work, pool, kind):
    app = client(broker)
    worker = work(pool, 1 if pool == "solo" else 4, "-Q", "a,b", transport=kind)
    note = app.tasks["note"]
    note.apply_async(("plain",), queue="a")
    note.apply_async(("other-queue",), queue="b")
    note.apply_async(("urgent",), queue="a", priority=9)
    note.apply_async(("later",), queue="a", countdown=0.5)
    note.apply_async(("expired",), queue="a", expires=-1)
    for name in ("stubborn", "rejected", "again"):
        app.tasks[name].apply_async(queue="b")
    expected = [
        "plain",
        "other-queue",
        "urgent",
        "later",
        "stubborn-False",
        "stubborn-True",
        "rejected",
        "again-0",
        "again-1",
    ]
    until(lambda: sorted(worker.results()) == sorted(expected), "every task has had its way")
    inspect = app.control.inspect(timeout=5, limit=1)
    assert [reply["ok"] for reply in inspect.ping().values()] == ["pong"]
    assert {queue["name"] for queue in next(iter(inspect.active_queues().values()))} == {"a", "b"}
    result = note.apply_async(("revoked",), queue="a", countdown=1)
    app.control.revoke(result.id)
    note.apply_async(("after",), queue="a", countdown=1.5)
    until(lambda: "after" in worker.results(), "the task after the revoked one")
    assert "revoked" not in worker.results()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert [broker.client.llen(queue) for queue in ("a", "b")] == [0, 0]


@pytest.mark.parametrize("pool", POOLS)
def test_credit_that_a_task_frees_is_used_and_none_is_stranded(broker, work, pool):
    sent = send(broker, 2500, 0.1)
    worker = work(pool, 500)
    until(lambda: empty(broker), "the queue is worked off")
    assert set(worker.results()) == sent and twice(worker) == 0
    more = send(broker, 1000, 0.1, first=2500)
    until(lambda: set(worker.results()) == sent | more, "and again after it was idle")
    until(lambda: empty(broker), "everything is acknowledged")


@pytest.mark.parametrize("pool", POOLS)
def test_sigterm_finishes_what_runs_and_gives_back_the_rest(broker, work, pool):
    sent = send(broker, 1000, 0.2)
    worker = work(pool, 100)
    until(worker.results, "work is under way")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    done = worker.results()
    assert 0 < len(done) < 1000
    assert transport.backlog(broker.client) == (1000 - len(done), 0)
    worker.start()
    until(lambda: empty(broker), "another worker does the rest")
    assert set(worker.results()) == sent and twice(worker) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_sigquit_gives_back_what_it_cut_off(broker, work, pool):
    sent = send(broker, 200, 0.5)
    worker = work(pool, 100)
    until(lambda: transport.backlog(broker.client)[1] == 100, "all slots are busy")
    worker.signal(signal.SIGQUIT)
    worker.wait(15)
    assert transport.backlog(broker.client)[1] == 0
    worker.start()
    until(lambda: empty(broker), "another worker does the rest")
    assert set(worker.results()) == sent
    assert twice(worker) <= 100


@pytest.mark.parametrize("where", ["decoding a message", "in a task"])
@pytest.mark.parametrize("pool", [*POOLS, "prefork", "solo"])
def test_sigquit_may_come_anywhere(broker, work, pool, where):
    sent = send(broker, 10, 0.2)
    app = client(broker)
    if where == "in a task":
        app.tasks["stops"].apply_async(("stops",))
    else:
        app.tasks["note"].apply_async(("stops", 0.2), serializer="stopping-json")
    more = send(broker, 10, 0.2, first=10)
    worker = work(pool, 1 if pool == "solo" else 4)
    worker.wait(15)
    assert transport.backlog(broker.client)[1] == 0
    worker.start()
    until(lambda: empty(broker), "another worker does the rest")
    assert set(worker.results()) == sent | more | {"stops"}
    assert twice(worker) <= 4


@pytest.mark.parametrize("pool", POOLS)
def test_nothing_is_lost_when_workers_are_killed_again_and_again(broker, work, pool):
    tasks, kills = (20000, 20) if EVERYTHING else (3000, 3)
    sent = send(broker, tasks, 0.02)
    worker = work(pool, 100)
    chance = random.Random(pool)
    for _ in range(kills):
        seen = len(worker.results()) + chance.randrange(1, tasks // (2 * kills))
        until(partial(lambda seen: len(worker.results()) >= seen or empty(broker), seen), "work goes on")
        worker.kill()
        worker.start()
    until(lambda: empty(broker), "the rest is done", 120)
    assert set(worker.results()) == sent
    assert twice(worker) <= 100 * kills
    assert broker.client.llen("dead_letters") == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_was_stopped_for_longer_than_its_lease_goes_on(broker, work, pool):
    sent = send(broker, 1000, 0.1)
    worker = work(pool, 50)
    until(lambda: len(worker.results()) > 100, "work is under way")
    worker.signal(signal.SIGSTOP)
    held = transport.backlog(broker.client)[1]
    other = Worker(broker, worker.done.parent, pool, 50)
    try:
        until(lambda: b"gave back" in worker.log.read_bytes(), "the stopped worker's lease has run out")
        worker.signal(signal.SIGCONT)
        until(lambda: empty(broker), "both do the rest")
        assert set(worker.results()) == sent
        assert twice(worker) <= held
    finally:
        other.kill()


@pytest.mark.parametrize("pool", POOLS)
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(broker, work, pool):
    sent = send(broker, 1200, 0.2)
    worker = work(pool, 100)
    for _ in range(2):
        seen = len(worker.results())
        until(partial(lambda seen: len(worker.results()) > seen + 100, seen), "work is under way")
        broker.kill()
        broker.start()
    until(lambda: empty(broker), "the worker has come back and done the rest")
    assert set(worker.results()) == sent
    assert twice(worker) <= 2 * 100
    assert worker.process is not None and worker.process.poll() is None


def test_a_task_that_kills_its_worker_is_a_dead_letter_and_its_company_is_not(broker, work):
    sent = send(broker, 100, 0.3)
    client(broker).tasks["poison"].delay()
    sent |= send(broker, 100, 0.3, first=100)
    worker = work("threads", 100, max_deaths=4)
    deaths = 0
    while not broker.client.llen("dead_letters"):
        until(
            lambda: worker.process.poll() is not None or broker.client.llen("dead_letters"),
            "the worker dies or the task is condemned",
        )
        if worker.process.poll() is not None:
            deaths += 1
            worker.start()
    until(lambda: empty(broker), "the others are done")
    results = Counter(worker.results())
    assert {entry for entry in results if not entry.startswith("poison")} == sent
    assert results["poison-False"] == 1 and results["poison-True"] == 3
    assert deaths == 4
    (letter,) = broker.client.lrange("dead_letters", 0, -1)
    assert b"poison" in letter and b"4 workers died" in letter


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("which", ["normal", "pubsub"])
def test_an_idle_worker_whose_connections_are_killed_takes_the_next_task(broker, work, pool, which):
    worker = work(pool, 4)
    sent = send(broker, 5)
    until(lambda: set(worker.results()) == sent and empty(broker), "it works and is idle")
    broker.client.execute_command("CLIENT", "KILL", "TYPE", which, "SKIPME", "yes")
    sent |= send(broker, 5, first=5)
    until(lambda: set(worker.results()) == sent, "the next tasks are taken", 40)
    assert worker.process is not None and worker.process.poll() is None


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_waits_while_the_broker_takes_nothing(broker, work, pool):
    sent = send(broker, 400, 0.2)
    worker = work(pool, 20)
    until(lambda: len(worker.results()) > 40, "work is under way")
    broker.client.config_set("min-replicas-to-write", 1)
    try:
        seen = worker.log.stat().st_size
        until(lambda: b"takes nothing for now" in worker.log.read_bytes()[seen:], "it says so")
        time.sleep(3)
    finally:
        broker.client.config_set("min-replicas-to-write", 0)
    until(lambda: set(worker.results()) == sent and empty(broker), "it has done the rest")
    assert twice(worker) == 0
    assert worker.process is not None and worker.process.poll() is None


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_that_were_only_held_are_not_blamed_for_their_worker_s_death(broker, work, pool):
    app = client(broker)
    for i in range(40):
        app.tasks["note"].apply_async((f"later-{i}",), countdown=900)
    worker = work(pool, 4)
    for _ in range(3):
        until(
            lambda: any(broker.client.scard(k) == 40 for k in broker.client.keys("_leased.idle.*")),
            "it holds them and says so",
        )
        worker.kill()
        worker.start()
    until(lambda: transport.backlog(broker.client)[1] == 40, "it has got them back")
    sent = send(broker, 20)
    until(lambda: set(worker.results()) == sent, "ordinary tasks run meanwhile")
    assert not broker.client.keys("*quarantine*")
    assert not broker.client.exists("dead_letters")


def test_what_is_no_task_is_a_dead_letter(broker, work):
    app = client(broker)
    app.send_task("nobody.knows", args=(1,))
    app.tasks["note"].apply_async(("bad",))
    envelope = json.loads(broker.client.lpop("celery"))
    changes: dict[str, Any]
    for changes in ({"body": "%%%"}, {"content-type": "application/x-unheard-of"}, {"headers": {}}):
        broker.client.lpush("celery", json.dumps(envelope | changes))
    worker = work("threads", 2)
    sent = send(broker, 3)
    until(lambda: set(worker.results()) == sent and empty(broker), "the others are done")
    letters = broker.client.lrange("dead_letters", 0, -1)
    assert len(letters) == 4
    assert any(b"nobody.knows" in letter for letter in letters)
