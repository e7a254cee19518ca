"""One run through a stack: what is published, when something is done to it, and what came of it."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import requests
from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from queuebench import settings as settings_module
from queuebench.bench.stack import Service
from queuebench.broker import dead_letters, transport
from queuebench.broker.broker import CELERY_QUEUE
from queuebench.errors import Unreachable
from queuebench.measuring.ranges import Ranges
from queuebench.queues import open_queue
from queuebench.queues.base import Queue
from queuebench.queues.redis_list import RedisList
from queuebench.queues.sqs import Sqs
from tests.faults.stacks import FaultStack, sqs_client

if TYPE_CHECKING:
    from tests.faults.kind import Kind

PACE = "0.002"  # a publisher that is busy for some seconds
RUN_SECONDS = 300.0
PROBE_SECONDS = 60.0
REST_SECONDS = 120.0

# What one subscriber has in flight at most: a batch in each lane; on SQS there are SQS_THREADS lanes.
LANES = {"REDIS": RedisList.receivers * RedisList.batch_size, "SQS": 8 * Sqs.batch_size}


class Scene:
    """One run through a stack: publishing, a moment to act at, and the end."""

    def __init__(self, stack: FaultStack, chance: random.Random, messages: int) -> None:
        self.stack, self.chance, self.messages = stack, chance, messages
        self.queue = stack.queue
        # Which process the queue under test is.
        self.queue_server = "redis" if stack.queue == "REDIS" else "sqs"
        self.paced = True
        self.extra: dict[str, int] = {}  # what was sent beside the run: of which name how many
        self.publishers: list[Service] = []
        self.story: list[str] = []
        self.watch: Callable[[], None] = lambda: None
        self.celery_peak = 0
        self._log = stack.folder / "endpoint.log"
        self._log_before = self._log.stat().st_size if self._log.exists() else 0
        self._known = set(stack.results.glob("*/summary.json"))
        self._began = time.monotonic()
        self._opened: Queue | None = None
        self._over_at: float | None = None
        self._slowest_probe: float | None = None
        self._arrivals: list[float] = []
        self._closed = threading.Event()
        threading.Thread(target=self._watch_arrivals, daemon=True).start()
        self._redis = Redis(port=stack.port_of("broker"))
        self.prepare()

    def prepare(self) -> None:
        """Open the queue under test."""
        environment = self.stack.environment_of("scene")
        self._opened = open_queue(self.queue, settings_module.load(environment).options())

    def _watch_arrivals(self) -> None:
        """Note when something arrived, to 20 ms."""
        before = self._log_before
        while not self._closed.wait(0.02):
            size = self._log.stat().st_size if self._log.exists() else 0
            if size != before:
                before = size
                self._arrivals.append(time.monotonic())

    # What happens

    def say(self, what: str) -> None:
        """Keep what was done and when, for the record."""
        self.story.append(f"{time.monotonic() - self._began:.1f} s: {what}")

    def over(self, what: str) -> None:
        """Keep that what was done is over: from now on the pipeline has to recover."""
        self.say(what)
        self._over_at = time.monotonic()

    def recovery(self) -> float | None:
        """Return the longest time without an arrival since it was over; None: there was none to come."""
        if self._slowest_probe is not None:
            return self._slowest_probe
        if self._over_at is None:
            return None
        times = [self._over_at, *(at for at in list(self._arrivals) if at > self._over_at)]
        return max((later - at for at, later in pairwise(times)), default=None)

    def note_recovery(self) -> None:
        """Have what arrives from now on not count for the recovery."""
        self._slowest_probe = self.recovery()

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

    def send(self) -> None:
        """Put one message straight into the queue, as a producer of some other kind does."""
        name = next((name for name in self.extra if name.startswith("sent")), f"sent{uuid.uuid4().hex}")
        number = self.extra.get(name, 0)
        body = orjson.dumps({"p": "+5511999990000", "m": "hello", "id": f"{name}-{number}"}).decode()
        self.put(body)
        self.extra[name] = number + 1

    def put(self, body: str) -> None:
        """Put a message into the queue."""
        if self.queue == "REDIS":
            with self.stack.client_of("redis") as client:
                client.rpush("phone_numbers", body)
            return
        sqs = sqs_client(self.stack.environment["AWS_ENDPOINT_URL_SQS"])
        url = sqs.get_queue_url(QueueName="phone_numbers")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=body)

    def poison(self) -> None:
        """Send what kills the worker that ships it."""
        self.put('{"p":"+5511999990000","m":"poison","id":"poison-0"}')
        self.extra["poison"] = 1

    def probe(self) -> None:
        """Send one message to a pipeline that rests, and wait until it has arrived."""
        before, began = self.arrived(), time.monotonic()
        self.send()
        self.until(lambda: self.arrived() > before, "a message arrives", PROBE_SECONDS)
        self._slowest_probe = max(self._slowest_probe or 0.0, time.monotonic() - began)

    def delay(self, count: int, seconds: float) -> None:
        """Send tasks that are to begin later."""
        name = f"later{uuid.uuid4().hex}"
        self.extra[name] = count
        with Celery(
            broker=f"redis://127.0.0.1:{self.stack.port_of('broker')}/0", set_as_current=False
        ) as app:
            for number in range(count):
                app.send_task(
                    "push_data",
                    ("+5511999990000", "later"),
                    countdown=seconds,
                    task_id=f"{name}-{number}",
                    ignore_result=True,
                )

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
            self.look()
            time.sleep(0.02)

    def look(self) -> None:
        """See to what a kind wants watched, while something is waited for."""
        self.watch()

    def until_ended(self, service: Service) -> None:
        """Wait for a process to end."""
        self.until(lambda: service.exit_code() is not None, f"{service.name} ends", 180.0)

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
            self.look()
            time.sleep(0.02)

    def held_by_subscribers(self) -> int:
        """Count what the queue under test has in flight."""
        assert self._opened is not None
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

    def most_in_broker(self) -> int:
        """Return how much subscribers may put there."""
        return 800 + LANES[self.queue]

    def count(self, role: str) -> int:
        """Return how many processes of a role there are."""
        return sum(name.split("-")[0] == role for name in self.stack.services)

    def sample_celery(self) -> None:
        """Note how much the broker holds."""
        self.celery_peak = max(self.celery_peak, sum(transport.backlog(self._redis, CELERY_QUEUE)))

    # How it ended

    def finish(self, seconds: float = RUN_SECONDS) -> None:
        """Wait for the run to end and for everything to be empty.

        Raises:
            TimeoutError: it did not.
        """
        self.until(lambda: len(self._new()) > 0, "the run ends", seconds)
        for publisher in self.publishers:
            self.until_ended(publisher)
        self.until(self._at_rest, "nothing is left in the queue or in Celery", REST_SECONDS)
        self.until(self._extra_arrived, "what was sent beside the run arrives", REST_SECONDS)

    def _extra_arrived(self) -> bool:
        return all(
            self.tally(name)["distinct"] >= count or self.dead_ids() for name, count in self.extra.items()
        )

    def outcome(self, kind: Kind, bound: int) -> tuple[dict[str, Any], list[str]]:
        """Return what came of a run that has finished, and which promises that breaks."""
        summary: dict[str, Any] = orjson.loads(self._new()[0].read_bytes())
        counts, run = summary["counts"], summary["run_id"]
        missing = self.missing(run)
        duplicates = self.tally(run)["duplicates"] + sum(
            self.tally(name)["duplicates"] for name in self.extra
        )
        extra = {name: self.missing_of(name, Ranges([[0, count - 1]])) for name, count in self.extra.items()}
        lost = len(missing) + sum(map(len, extra.values()))
        record = {
            "run": run,
            "published": counts["published"] + sum(self.extra.values()),
            "lost": lost,
            "duplicated": duplicates,
            "dead_lettered": len(self.dead_letters()),
        }
        flaws = []
        if lost and not kind.loses:
            flaws.append(f"lost: {missing.to_json()} {[gone.to_json() for gone in extra.values()]}")
        if counts["lost"] != len(missing):
            flaws.append(f"the summary says {counts['lost']} lost, of {len(missing)}")
        if duplicates > bound:
            flaws.append(f"{duplicates} duplicated, more than the {bound} that were in flight")
        if any("not finish" in reason for reason in summary["reasons"]):
            flaws.append("the run did not finish")
        dead = record["dead_lettered"]
        if not dead if kind.refuses else dead != kind.dead_letters:
            flaws.append(f"{dead} dead letters: {[letter.reason for letter in self.dead_letters()[:3]]}")
        # A run is not valid, and 1 the publisher's end, where the endpoint was late or memory full.
        if self.publishers[-1].exit_code() not in (0, 1):
            flaws.append(f"the publisher ended with {self.publishers[-1].exit_code()}")
        if len(self.publishers) == 1 and counts["published"] < self.messages:
            flaws.append(f"only {counts['published']} were accepted")
        return record, flaws

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
        return self.missing_of(run, accepted)

    def missing_of(self, run: str, accepted: Ranges) -> Ranges:
        prefix = f"{run}-"
        dead = sorted({int(id[len(prefix) :]) for id in self.dead_ids() if id.startswith(prefix)})
        return accepted - Ranges(self.tally(run)["numbers"]) - Ranges([number, number] for number in dead)

    def dead_ids(self) -> Sequence[str]:
        """Return the ids of the dead letters."""
        return [letter.id for letter in self.dead_letters()]

    def dead_letters(self) -> list[dead_letters.DeadLetter]:
        """Return what is in the dead-letter place."""
        records: Any = self._redis.lrange(dead_letters.KEY, 0, -1)
        return [dead_letters.DeadLetter.decode(record) for record in records]

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

    def damage(self) -> list[str]:
        """Return what is broken in the processes themselves."""
        found = []
        if gone := self.gone():
            found.append(f"not running any more: {', '.join(gone)}")
        if outcries := self.outcries():
            found.append(f"an unforeseen error in {', '.join(outcries)}")
        return found

    def close(self) -> None:
        """Leave no publisher behind, and no connection."""
        self._closed.set()
        for publisher in self.publishers:
            publisher.kill()
        if self._opened is not None:
            self._opened.close()
        with suppress(RedisError):
            # The next scene begins without any.
            self._redis.delete(dead_letters.KEY)
        self._redis.close()

    def _new(self) -> list[Path]:
        return sorted(set(self.stack.results.glob("*/summary.json")) - self._known)

    def _at_rest(self) -> bool:
        assert self._opened is not None
        try:
            return not (sum(self._opened.depth()) or sum(transport.backlog(self._redis, CELERY_QUEUE)))
        except (Unreachable, OSError, RedisError):
            return False
