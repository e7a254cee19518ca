"""A worker goes on within seconds when its connections are killed, closed by the server, or half open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError

from tests.line import Line
from tests.test_transport_workers import POOLS, client
from tests.transport_fixtures import EVERYTHING, Server, Worker, broker, empty, server, until, work

pytestmark = pytest.mark.slow

__all__ = ["broker", "server", "work"]

OURS = "tester"  # the name of the connections that are not the worker's
SOON = 40.0


class Sender:
    """Sends tasks over connections that have a name."""

    def __init__(self, broker: Server) -> None:
        self.app: Celery = client(broker)
        self.app.conf.broker_transport_options = {"client_name": OURS}
        self.sent: set[str] = set()

    def send(self, count: int = 1, seconds: float = 0.0) -> set[str]:
        new = {str(len(self.sent) + i) for i in range(count)}
        for entry in new:
            self.app.tasks["note"].apply_async((entry, seconds))
        self.sent |= new
        return new

    def pings(self) -> bool:
        try:
            return bool(self.app.control.inspect(timeout=2, limit=1).ping())
        except (OSError, OperationalError, ConnectionError):  # its own connections may be closed, too
            return False


@pytest.fixture
def sender(broker: Server) -> Iterator[Sender]:
    sender = Sender(broker)
    yield sender
    sender.app.close()


def connections(broker: Server) -> list[dict[str, Any]]:
    """Return the worker's connections, oldest first."""
    own = broker.client.client_id()
    found = [each for each in broker.client.client_list() if int(each["id"]) != own and each["name"] != OURS]
    return sorted(found, key=lambda each: int(each["id"]))


def all_run(worker: Worker, sender: Sender, what: str) -> None:
    until(lambda: sender.sent <= set(worker.results()), f"every task has run after {what}", SOON)


@pytest.mark.parametrize("pool", POOLS)
def test_each_connection_may_be_killed_by_itself_idle_and_at_work(broker, work, sender, pool):
    worker = work(pool, 4, quiet=False)
    sender.send()
    all_run(worker, sender, "the start")
    until(sender.pings, "it can be asked")
    for place in range(len(connections(broker))):
        for at_work in (True, False) if EVERYTHING else (place % 2 == 0,):
            # At work: all slots are busy, and more tasks wait.
            sender.send(12 if at_work else 0, 0.1)
            now = connections(broker)
            victim = now[min(place, len(now) - 1)]
            broker.client.client_kill_filter(_id=victim["id"])
            sender.send()
            what = f"connection {place} ({victim['cmd']}, flags {victim['flags']}) was killed"
            all_run(worker, sender, what)
            until(sender.pings, f"it can be asked after {what}", SOON)
    broker.client.config_set("timeout", 1)
    try:
        time.sleep(4)
        sender.send()
        all_run(worker, sender, "the server closed what was idle")
    finally:
        broker.client.config_set("timeout", 0)
    until(sender.pings, "it can be asked", SOON)
    until(lambda: empty(broker), "everything is acknowledged")
    assert worker.process is not None and worker.process.poll() is None


WAYS = [("idle", True, True), ("work", False, True)]
MORE_WAYS = [("work", True, True), ("idle", True, False), ("work", True, False), ("idle", False, True)]


@pytest.mark.parametrize("pool", POOLS)
def test_half_open_connections_are_given_up(broker, work, sender, pool, monkeypatch):
    line = Line(broker.port)
    try:
        monkeypatch.setattr(broker, "url", line.url)
        worker = work(pool, 4, quiet=False)
        sender.send()
        all_run(worker, sender, "the start")
        for when, requests, replies in [*WAYS, *(MORE_WAYS if EVERYTHING else [])]:
            if when == "work":
                sender.send(40, 0.1)
                until(lambda: len(sender.sent - set(worker.results())) < 36, "work is under way")
            assert line.swallow(requests=requests, replies=replies)
            sender.send()
            what = f"at {when}, it swallowed requests ({requests}) and replies ({replies})"
            all_run(worker, sender, what)
            until(sender.pings, f"it can be asked after {what}", SOON)
        until(lambda: empty(broker), "everything is acknowledged", SOON)
        assert worker.process is not None and worker.process.poll() is None
    finally:
        line.close()
