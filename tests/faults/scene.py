"""The pipeline that faults are done to, and what is measured of it afterwards."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import requests
from redis import Redis

from queuebench import settings as settings_module
from queuebench.bench.stack import Service, Stack
from queuebench.broker import dead_letters, transport
from queuebench.broker.broker import CELERY_QUEUE
from queuebench.errors import Unreachable
from queuebench.measuring.ranges import Ranges
from queuebench.queues import open_queue
from queuebench.queues.redis_list import RedisList
from queuebench.queues.sqs import Sqs
from tests.faults.gateway import Gateway
from tests.transport_fixtures import Line

SLOTS = 200
SETTINGS = {
    "PUSH_SECONDS": "0.2",
    "WORKER_SLOTS": str(SLOTS),
    # Small, so that messages wait in the queue under test and the subscriber is busy to the end.
    "CELERY_BACKLOG_LIMIT": "800",
}
PACE = "0.002"  # a publisher that is busy for some seconds
RUN_SECONDS = 300.0
REST_SECONDS = 120.0

# What one subscriber has in flight at most: a batch in each lane; on SQS there are SQS_THREADS lanes.
LANES = {"REDIS": RedisList.receivers * RedisList.batch_size, "SQS": 8 * Sqs.batch_size}


class LinedStack(Stack):
    """A stack whose roles reach each Redis through a line of their own, which can be cut."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lines: dict[tuple[str, str], Line] = {}
        for role in ("publisher", "subscriber", "worker"):
            for server in ("redis", "broker"):
                self.lines[role, server] = Line(self.ports[server])

    def environment_of(self, name: str) -> Mapping[str, str]:
        role = name.split("-")[0]
        if (role, "redis") not in self.lines:
            return self.environment
        return self.environment | {
            "REDIS_PUBSUB_URL": self.lines[role, "redis"].url,
            "REDIS_CELERY_URL": self.lines[role, "broker"].url,
        }

    def close(self) -> None:
        super().close()
        for line in self.lines.values():
            line.close()


class GatewayStack(Stack):
    """A stack whose workers reach the endpoint through a gateway."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gateway = Gateway(self.ports["endpoint"])

    def environment_of(self, name: str) -> Mapping[str, str]:
        if name.split("-")[0] != "worker":
            return self.environment
        return self.environment | {"PUSH_URL": self.gateway.url}

    def close(self) -> None:
        super().close()
        self.gateway.close()


class Scene:
    """One run through a stack: publishing, a moment to act at, and the end."""

    def __init__(self, stack: Stack, chance: random.Random, messages: int) -> None:
        self.stack, self.chance, self.messages = stack, chance, messages
        self.queue = stack.queue
        self.paced = True
        self.publishers: list[Service] = []
        self.story: list[str] = []
        self.watch: Callable[[], None] = lambda: None
        self.celery_peak = 0
        self._log = stack.folder / "endpoint.log"
        self._log_before = self._log.stat().st_size if self._log.exists() else 0
        self._known = set(stack.results.glob("*/summary.json"))
        self._began = time.monotonic()
        self._redis = Redis(port=stack.ports["broker"])
        self._opened = open_queue(self.queue, settings_module.load(stack.environment).options())

    # What happens

    def say(self, what: str) -> None:
        """Keep what was done and when, for the record."""
        self.story.append(f"{time.monotonic() - self._began:.1f} s: {what}")

    def publish(self, *, paced: bool = True) -> Service:
        """Start a publisher; a paced one takes some seconds, another floods."""
        self.paced = paced
        if paced and self.queue == "SQS":
            # One by one, each call of some milliseconds.
            self.messages = min(self.messages, 1500)
        pace = PACE if paced else "0"
        number = len(self.publishers) + 1
        log = self.stack.folder / "logs" / f"publisher-{time.monotonic_ns()}.log"
        environment = {**self.stack.environment_of("publisher"), "PUBLISHER_DELAY": pace}
        argv = [sys.executable, "-m", "queuebench", "publisher", str(self.messages), "--wait"]
        publisher = Service(f"publisher-{number}", argv, environment, log, lambda: True)
        publisher.launch()
        self.publishers.append(publisher)
        return publisher

    def arrived(self) -> int:
        """Count what has arrived since the beginning, duplicates included."""
        with self._log.open("rb") as log:
            log.seek(self._log_before)
            return log.read().count(b"\n")

    def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for something to come true.

        Raises:
            TimeoutError: it did not.
        """
        give_up_at = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"not in {seconds:g} s: {what}")
            self.watch()
            time.sleep(0.02)

    def until_ended(self, service: Service) -> None:
        """Wait for a process to end."""
        self.until(lambda: service.exit_code() is not None, f"{service.name} ends", 60.0)

    def random_moment(self) -> None:
        """Wait for a random share of the messages to have arrived."""
        share = self.chance.uniform(0.02, 0.7)
        self.until(
            lambda: self.arrived() >= share * self.messages, f"{share:.0%} of the messages arrive", 120.0
        )

    def sleep(self, lowest: float, highest: float) -> None:
        """Wait for a random time."""
        end = time.monotonic() + self.chance.uniform(lowest, highest)
        while time.monotonic() < end:
            self.watch()
            time.sleep(0.02)

    def held_by_subscribers(self) -> int:
        """Count what the queue under test has in flight."""
        while True:
            try:
                return self._opened.depth().in_flight
            except Unreachable:
                time.sleep(0.1)

    def catch_subscriber(self, seconds: float = 5.0) -> None:
        """Wait for a subscriber to hold something, as far as that comes to pass."""
        give_up_at = time.monotonic() + seconds
        while not self.held_by_subscribers() and time.monotonic() < give_up_at:
            time.sleep(0.001)

    def held_by_workers(self) -> int:
        """Count the shipments in the tasks that Celery's queue has in flight, at most."""
        per_task = int(self.stack.environment.get("SHIPMENTS_PER_TASK", "1"))
        return transport.backlog(self._redis, CELERY_QUEUE)[1] * per_task

    def count(self, role: str) -> int:
        """Return how many processes of a role there are."""
        return sum(name.split("-")[0] == role for name in self.stack.services)

    def sample_celery(self) -> None:
        """Note how much the broker holds."""
        self.celery_peak = max(self.celery_peak, sum(transport.backlog(self._redis, CELERY_QUEUE)))

    # How it ended

    def finish(self, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait for the run to end and for everything to be empty; return its summary.

        Raises:
            TimeoutError: it did not.
        """
        self.until(lambda: len(self._new()) > 0, "the run ends", seconds)
        for publisher in self.publishers:
            self.until_ended(publisher)
        self.until(self._at_rest, "nothing is left in the queue or in Celery", REST_SECONDS)
        summary: dict[str, Any] = orjson.loads(self._new()[0].read_bytes())
        return summary

    def tally(self, run: str) -> dict[str, Any]:
        """Return what the endpoint says of a run: `distinct`, `duplicates`, `numbers`."""
        answer = requests.get(
            f"http://127.0.0.1:{self.stack.ports['endpoint']}/tally",
            params={"run": run, "numbers": "1"},
            timeout=10,
        )
        found: dict[str, Any] = answer.json()
        return found

    def missing(self, run: str) -> Ranges:
        """Return the numbers that the queue accepted, and that neither arrived nor are dead letters."""
        record = json.loads((self.stack.results / run / "run.json").read_text())
        accepted = Ranges()
        for part in [*record["publishers"].values(), *(p["totals"] for p in record["processes"].values())]:
            accepted |= Ranges(part["accepted"])
        dead = [
            letter.number for letter in self.dead_letters() if letter.run == run and letter.number is not None
        ]
        gone = accepted - Ranges(self.tally(run)["numbers"])
        return gone - Ranges([number, number] for number in sorted(set(dead)))

    def dead_letters(self) -> list[dead_letters.DeadLetter]:
        """Return what is in the dead-letter place."""
        records: Any = self._redis.lrange(dead_letters.KEY, 0, -1)
        return [dead_letters.DeadLetter.decode(record) for record in records]

    def forget_dead_letters(self) -> None:
        """Make room for the next fault's."""
        self._redis.delete(dead_letters.KEY)

    def outcries(self) -> list[str]:
        """Return the logs that tell of an error nobody has foreseen."""
        found = []
        for log in sorted((self.stack.folder / "logs").glob("*.log")):
            text = log.read_text(errors="replace")
            # Celery's listener for remote control cries out whenever the broker is away, and is replaced.
            signs = ["raised unexpected", "Exception in thread"]
            signs += [] if log.name.startswith("worker") else ["Traceback (most recent call last)"]
            if any(sign in text for sign in signs):
                found.append(log.name)
        return found

    def gone(self) -> list[str]:
        """Return the services that do not run."""
        return [name for name, service in self.stack.services.items() if service.exit_code() is not None]

    def close(self) -> None:
        """Leave no publisher behind, and no connection."""
        for publisher in self.publishers:
            publisher.kill()
        self._opened.close()
        self._redis.close()

    def _new(self) -> list[Path]:
        return sorted(set(self.stack.results.glob("*/summary.json")) - self._known)

    def _at_rest(self) -> bool:
        try:
            return not (sum(self._opened.depth()) or sum(transport.backlog(self._redis, CELERY_QUEUE)))
        except (Unreachable, OSError):
            return False
