"""The same faults done to plain Celery: its processes, and what is seen of them.

Nothing here breaks a promise, since none was made: what is lost, comes twice or stands still is counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import requests
from celery import Celery
from redis.exceptions import RedisError

from queuebench.bench.stack import Service
from queuebench.measuring.ranges import Ranges
from tests import ROOT
from tests.faults.scene import PACE, Scene
from tests.faults.stacks import SLOTS, FaultStack

if TYPE_CHECKING:
    from tests.faults.kind import Kind

WAIT_SECONDS = 90.0  # after a fault is over; what is not back then has a column of its own
UNTIL_SECONDS = 60.0  # that anything else may take
RESTART_SECONDS = 1.0  # after which whoever watches over a worker starts it again
MOST_MEMORY = 1536 * 1024 * 1024  # of a worker; the kernel of a container kills one that wants more


class StockService(Service):
    """A process that is started again when it ends by itself."""

    told = False

    def launch(self) -> None:
        self.told = False
        super().launch()

    def signal(self, number: int) -> None:
        self.told = self.told or number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
        super().signal(number)


class StockStack(FaultStack):
    """A broker, an endpoint and stock workers."""

    def start(self) -> None:
        for service in (
            self.add_redis("broker"),
            self.add_module("endpoint", "--log", str(self.folder / "endpoint.log")),
        ):
            service.start()
        self.add_replica()
        workers = [self.add_worker(number) for number in range(1, self.layout.workers + 1)]
        for worker in workers:
            worker.launch()
        for worker in workers:
            worker.wait_until_ready()

    def environment_of(self, name: str) -> Mapping[str, str]:
        return {**super().environment_of(name), "PYTHONPATH": str(ROOT)}

    def add_worker(self, number: int) -> Service:
        argv = [sys.executable, "-m", "celery", "-A", "tests.faults.stock_app", "worker", "-P", "threads"]
        argv += ["-c", str(SLOTS), "-l", "WARNING", "-n", f"worker-{number}-{self.ports['broker']}@%h"]
        return self._add(f"worker-{number}", argv, r"worker: ready")

    def _add(self, name: str, argv: Sequence[str], ready: str | Callable[[], bool]) -> Service:
        log = self.folder / "logs" / f"{name}.log"
        service = StockService(name, argv, self.environment_of(name), log, ready, self._stopped)
        self.services[name] = service
        return service


class StockScene(Scene):
    """One run through plain Celery."""

    def prepare(self) -> None:
        self.queue_server = "broker"
        self.ends: list[str] = []
        self.hangs: list[str] = []
        self._runs: dict[str, Path] = {}
        self._restarts: dict[str, float] = {}
        self._give_up_at: float | None = None

    # What happens

    def publish(self, *, paced: bool = True) -> Service:
        run = uuid.uuid4().hex
        self._runs[run] = self.stack.folder / f"accepted-{run}"
        environment = {**self.stack.environment_of("publisher"), "PUBLISHER_DELAY": PACE if paced else "0"}
        argv = [sys.executable, "-m", "tests.faults.stock_app", str(self.messages), run, str(self._runs[run])]
        log = self.stack.folder / "logs" / f"publisher-{run}.log"
        publisher = StockService(f"publisher-{run}", argv, environment, log, lambda: True)
        publisher.launch()
        self.publishers.append(publisher)
        return publisher

    def put(self, body: str) -> None:
        message = orjson.loads(body)
        url = f"redis://127.0.0.1:{self.stack.port_of('broker')}/0"
        with Celery(broker=url, set_as_current=False) as app:
            app.send_task(
                "push_data", (message["p"], message["m"]), task_id=message["id"], ignore_result=True
            )

    def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for something, and note where it does not come true."""
        give_up_at = time.monotonic() + min(seconds, UNTIL_SECONDS)
        while not condition():
            if time.monotonic() > give_up_at:
                self.hangs.append(what)
                self.say(f"not in {min(seconds, UNTIL_SECONDS):g} s: {what}")
                return
            self.look()
            time.sleep(0.02)

    def until_ended(self, service: Service) -> None:
        super().until_ended(service)
        service.kill()

    def look(self) -> None:
        """Do what watches over processes in production: start again, and kill what takes all memory."""
        super().look()
        now = time.monotonic()
        for name, service in self.stack.services.items():
            if not isinstance(service, StockService) or service.process is None:
                continue
            if service.exit_code() is None:
                if _memory_of(service.process.pid) > MOST_MEMORY:
                    service.process.kill()
            elif not service.told and self._restarts.setdefault(name, now + RESTART_SECONDS) <= now:
                self.ends.append(f"{name} ended by itself with {service.exit_code()}")
                self.say(self.ends[-1])
                del self._restarts[name]
                service.launch()

    def held_by_subscribers(self) -> int:
        return 0

    def held_by_workers(self) -> int:
        with self.stack.client_of("broker") as client:
            return int(client.hlen("unacked"))

    def most_in_broker(self) -> int:
        return sys.maxsize

    # How it ended

    def finish(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until all has arrived, or is nowhere any more, as long as that is waited for."""
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + seconds
        empty_since: float | None = None
        while time.monotonic() < self._give_up_at:
            self.look()
            if all(publisher.exit_code() is not None for publisher in self.publishers):
                with contextlib.suppress(RedisError, requests.RequestException):
                    missing = self._missing()
                    if not missing:
                        break
                    now = time.monotonic()
                    empty_since = None if missing & self._in_broker() else empty_since or now
                    if empty_since is not None and now - empty_since > 5.0:
                        break
            time.sleep(0.25)
        for publisher in self.publishers:
            if publisher.exit_code() is None:
                self.hangs.append("the publisher ends")
                publisher.kill()

    def outcome(self, kind: Kind, bound: int) -> tuple[dict[str, Any], list[str]]:
        waiting = self._in_broker()
        missing = self._missing()
        counted = [*self._runs, *self.extra]
        record = {
            "published": sum(map(len, self._accepted().values())) + sum(self.extra.values()),
            "lost": len(missing - waiting),
            "waiting": len(missing & waiting),
            "duplicated": sum(self.tally(run)["duplicates"] for run in counted),
            "dead_lettered": len(self.dead_ids()),
            "ended": self.ends,
            "hangs": self.hangs,
        }
        return record, []

    def dead_ids(self) -> Sequence[str]:
        with contextlib.suppress(RedisError), self.stack.client_of("broker") as client:
            return [orjson.loads(record)["id"] for record in client.lrange("dead_letters", 0, -1)]
        return []

    def damage(self) -> list[str]:
        return []

    def _accepted(self) -> dict[str, Ranges]:
        return {
            run: Ranges([int(number)] * 2 for number in path.read_text().split())
            for run, path in self._runs.items()
            if path.exists()
        }

    def _missing(self) -> set[str]:
        """Return the ids of what the broker has taken, and that has neither arrived nor been kept."""
        sent = self._accepted() | {name: Ranges([[0, count - 1]]) for name, count in self.extra.items()}
        return {
            f"{run}-{number}"
            for run, accepted in sent.items()
            for first, last in self.missing_of(run, accepted).to_json()
            for number in range(first, last + 1)
        }

    def _in_broker(self) -> set[str]:
        """Return the ids of the tasks that wait, or are with a worker."""
        return set(self._ids_in_broker())

    def _ids_in_broker(self) -> Iterator[str]:
        with self.stack.client_of("broker") as client:
            for payload in client.lrange("celery", 0, -1):
                yield orjson.loads(payload)["headers"]["id"]
            for payload in client.hvals("unacked"):
                yield orjson.loads(payload)[0]["headers"]["id"]


def _memory_of(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
