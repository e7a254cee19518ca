"""A Redis that says "not now" is waited for by every role, which says so once, and once when it is over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from queuebench.broker.broker import CELERY_QUEUE
from queuebench.broker.dead_letters import KEY, DeadLetter
from tests import ROOT
from tests.test_redis_client import busy, trouble
from tests.test_transport_workers import POOLS, send
from tests.transport_fixtures import Server, broker, empty, server, server_binaries, until, work

pytestmark = pytest.mark.slow

__all__ = ["broker", "server", "work"]

CODES = ["NOREPLICAS", "READONLY", "MASTERDOWN", "MISCONF", "BUSY"]
MESSAGE = b'{"p": "+5511999990000", "m": "hello"}'
CHANNEL = "phone_numbers"


def refusing(server: Server, code: str) -> contextlib.AbstractContextManager[None]:
    # Long enough to be met by who asks once in a while.
    return busy(server.client, server.url, 5) if code == "BUSY" else trouble(server)[code]()


class Role:
    """A process of one role, and what it has said."""

    def __init__(self, folder: Path, servers: dict[str, Server], *words: str, **settings: str) -> None:
        self.log = folder / f"{words[-1]}-{time.monotonic_ns()}.log"
        urls = {"REDIS_PUBSUB_URL": servers["queue"].url, "REDIS_CELERY_URL": servers["broker"].url}
        environment = os.environ | urls | {"QUEUE": "REDIS", "MONITOR_URL": ""} | settings
        out: IO[bytes]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    def said(self, what: str) -> int:
        return self.log.read_text().count(what)

    def waits_through(
        self, server: Server, code: str, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Await that it says once that a server refuses for now, and once that this is over."""
        before = (self.said("trying again"), self.said("is back"))
        with refusing(server, code):
            meanwhile()
            until(lambda: self.said("trying again") > before[0], f"it says that it waits at {code}")
            # Several tries more.
            time.sleep(2.5 if code != "BUSY" else 0)
        until(lambda: self.said("is back") > before[1], f"it says that {code} is over")
        assert (self.said("trying again"), self.said("is back")) == (before[0] + 1, before[1] + 1), (
            code,
            self.log.read_text(),
        )
        assert self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    pair = {name: Server(server_binaries()[0], tmp_path_factory.mktemp(name)) for name in ("queue", "broker")}
    for each in pair.values():
        each.start()
    yield pair
    for each in pair.values():
        each.kill()


def test_a_publisher_waits_for_its_queue(servers, tmp_path):
    queue = servers["queue"].client
    role = Role(tmp_path, servers, "queuebench", "publisher", RATE="50", MESSAGES="1000000")
    try:
        until(lambda: queue.llen(CHANNEL) > 10, "it publishes")
        for code in [*CODES, "OOM"]:
            role.waits_through(servers["queue"], code)
            seen = queue.llen(CHANNEL)
            until(lambda: queue.llen(CHANNEL) > seen, f"it publishes after {code}")  # noqa: B023
        role.process.terminate()
        assert role.process.wait(30) == 130
        accepted = role.log.read_text().rpartition("accepted ")[2].split()[0].replace(",", "")
        assert queue.llen(CHANNEL) == int(accepted)
    finally:
        role.end()
        queue.flushall()


def test_a_subscriber_waits_for_its_queue_and_for_its_broker(servers, tmp_path):
    queue, broker = servers["queue"].client, servers["broker"].client
    role = Role(tmp_path, servers, "queuebench", "subscriber")
    sent = 0
    try:
        until(lambda: role.said("lanes of"), "it is ready")
        # While a script runs, its lanes wait for messages all the same, and meet nothing.
        for code in CODES[:-1]:
            role.waits_through(servers["queue"], code)
            sent += queue.rpush(CHANNEL, MESSAGE)
            until(lambda: broker.llen(CELERY_QUEUE) == sent, f"it hands over after {code}")  # noqa: B023
        for code in [*CODES, "OOM"]:
            role.waits_through(servers["broker"], code, lambda: queue.rpush(CHANNEL, MESSAGE, MESSAGE))
            sent += 2
            until(lambda: broker.llen(CELERY_QUEUE) == sent, f"both are handed over after {code}")  # noqa: B023
        # A dead letter, too.
        role.waits_through(servers["broker"], "READONLY", lambda: queue.rpush(CHANNEL, b"no message"))
        until(lambda: broker.llen(KEY) == 1, "it is kept")
        role.process.terminate()
        assert role.process.wait(60) == 0
        assert broker.llen(CELERY_QUEUE) == sent and queue.keys("*in-flight*") == []
    finally:
        role.end()
        queue.flushall(), broker.flushall()


@pytest.mark.parametrize("words", [("publisher", "1"), ("subscriber",), ("dead-letters", "resend")])
def test_a_role_that_starts_waits_too(servers, tmp_path, words):
    queue, broker = servers["queue"].client, servers["broker"].client
    broker.rpush(KEY, DeadLetter("x", MESSAGE).encode())
    place = servers["queue" if words[0] == "publisher" else "broker"]
    with refusing(place, "NOREPLICAS"):
        role = Role(tmp_path, servers, "queuebench", *words)
        until(lambda: role.said("trying again"), "it says that it waits")
        time.sleep(1.5)
    try:
        if words[0] == "subscriber":
            until(lambda: role.said("lanes of"), "it is ready")
        else:
            assert role.process.wait(60) == 0
            assert queue.llen(CHANNEL) == 1
        assert (role.said("trying again"), role.said("is back")) == (1, 1)
    finally:
        role.end()
        queue.flushall(), broker.flushall()


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_waits_for_its_broker(broker, work, pool):
    worker = work(pool, 4)
    sent: set[str] = set()

    def said(what: str) -> int:
        return int(worker.log.read_text().count(what))

    def unfinished() -> int:
        return len(sent - set(worker.results()))

    for code in CODES:
        sent |= send(broker, 40, 0.2, first=len(sent))
        until(lambda: unfinished() < 36, "work is under way")
        before = said("trying again until"), said("again\n") + said("is back")
        with refusing(broker, code):
            until(lambda: said("trying again until") > before[0], f"it says that it waits at {code}")  # noqa: B023
            time.sleep(2.5 if code != "BUSY" else 0)
        until(lambda: not unfinished() and empty(broker), f"every task has run after {code}")
        after = said("trying again until"), said("again\n") + said("is back")
        outages = after[0] - before[0]
        assert after[1] - before[1] == outages, (code, worker.log.read_text())
        # Between two scripts that keep it busy a server answers for a moment, and is back for it.
        assert 1 <= outages <= (2 if code == "BUSY" else 1), (code, worker.log.read_text())
    assert worker.process is not None and worker.process.poll() is None
    assert len(worker.results()) == len(sent)


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_starts_where_nothing_can_be_written_and_empties_a_full_broker(broker, work, pool):
    worker = work(pool, 4)
    worker.kill()
    worker.log.write_text("")
    sent = send(broker, 4)
    with refusing(broker, "NOREPLICAS"):
        worker.launch()
        until(lambda: "the broker is away" in worker.log.read_text(), "it says that it waits")
        time.sleep(3)
    until(lambda: sent <= set(worker.results()), "it takes its tasks")
    said = worker.log.read_text()
    assert said.count("the broker is away") == said.count("the broker is back") == 1
    assert "lost" not in said and "Cannot connect" not in said
    worker.kill()
    sent |= send(broker, 4, first=4)
    broker.client.delete(*broker.client.keys("_kombu.binding*"), "none")
    with refusing(broker, "OOM"):
        worker.start()
        until(lambda: sent <= set(worker.results()), "it empties a broker that is full")
        assert not broker.client.keys("_kombu.binding.celery")
    until(lambda: broker.client.keys("_kombu.binding.celery"), "and binds its queue later")
    assert "Traceback" not in worker.log.read_text()
