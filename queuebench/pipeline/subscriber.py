"""What a subscriber does: several lanes, each receiving, handing over and acknowledging in turn."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from types import FrameType
from typing import Any

from queuebench.broker.broker import Broker
from queuebench.broker.dead_letters import DeadLetter
from queuebench.broker.own_keys import refuse_shared
from queuebench.errors import MessageError, QueueError, TryLater, Unreachable
from queuebench.load.tenants import NOISY, QUIET
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.message import Message, decode, place_of
from queuebench.pipeline.hand_over import HandOver
from queuebench.plumbing.outage import Outage, persist
from queuebench.queues import Batch, open_queue
from queuebench.settings import Settings, load

IDLE_SECONDS = 2.0  # that a stop leaves to lanes that wait for messages
BUSY_SECONDS = 30.0  # that it leaves to lanes that are passing some on
ROOM_PAUSE_SECONDS = 0.1
LONGEST_FETCH_SECONDS = 0.1  # a receive that took longer waited for its first message
LONGEST_PAUSE_SECONDS = 2.0


def main(argv: list[str]) -> int:
    """Run until stopped."""
    argparse.ArgumentParser(
        prog="subscriber", description="Hand the messages of the queue that QUEUE names over to Celery."
    ).parse_args(argv)
    settings = load()
    # The app reads the settings when it is imported, and would end in the worker's name.
    from queuebench.pipeline.app import push_data, push_several

    return Subscription(settings, push_data, push_several).run()


class Subscription:
    """One subscriber process; bounded: each of its lanes holds one batch, of 1 MiB or one larger message."""

    def __init__(self, settings: Settings, push_data: Any, push_several: Any) -> None:
        self._settings = settings
        self._tasks = (push_data, push_several)
        self._queue = open_queue(settings.queue, settings.options())
        self._broker = Broker(settings.redis_celery_url)
        # Its slots are its lanes: what they pause is summed up.
        self._telemetry = Telemetry(
            "subscriber",
            settings.monitor_url,
            slots=self._queue.receivers,
            requests_made=self._queue.requests,
        )
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._busy: set[int] = set()
        self._full_at = -ROOM_PAUSE_SECONDS
        self._queue_outage = Outage("subscriber", f"the queue ({settings.queue_label})")
        self._broker_outage = Outage("subscriber", "the broker")

    def run(self) -> int:
        """Work until SIGTERM or Ctrl-C; return 0, or 1 where the queue refused.

        Raises:
            QueueError: the queue or the broker cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        persist(self._queue_outage, "start", self._check_queue, on=TryLater)
        if self._queue.warning:
            print(f"subscriber: {self._queue.warning}", file=sys.stderr, flush=True)
        persist(self._broker_outage, "start", lambda: self._broker.check("hand over"), on=TryLater)
        refuse_shared(self._settings)
        # Made before anything is measured: the first one has Celery make an envelope, which is start-up.
        ways = [
            HandOver(self._broker, *self._tasks, self._settings.shipments_per_task)
            for _ in range(self._queue.receivers)
        ]
        lanes = [
            threading.Thread(target=self._work, args=(lane, way), name=f"lane-{lane}", daemon=True)
            for lane, way in enumerate(ways)
        ]
        self._telemetry.start()
        print(
            f"subscriber: {self._settings.queue_label} {self._queue.name!r} → Celery "
            f"({len(lanes)} lanes of {self._queue.batch_size})",
            flush=True,
        )
        for thread in lanes:
            thread.start()
        while not self._stopping.wait(3600):
            pass
        self._await(lanes)
        self._queue.close()
        self._telemetry.close()
        if self._failure is not None:
            print(f"subscriber: {self._failure}", file=sys.stderr)
            return 1
        print("subscriber: stopped", flush=True)
        return 0

    def _check_queue(self) -> None:
        self._queue.try_rights("receive")
        self._queue.check()

    def _await(self, lanes: Sequence[threading.Thread]) -> None:
        """Wait for the lanes to end; one that only waits for messages has none to lose."""
        stopped_at = time.monotonic()
        while any(thread.is_alive() for thread in lanes):
            waited = time.monotonic() - stopped_at
            if waited > BUSY_SECONDS or (waited > IDLE_SECONDS and not self._busy):
                return
            time.sleep(0.02)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _work(self, lane: int, hand_over: HandOver) -> None:
        batches, is_idle = 0, True
        while not self._stopping.is_set():
            outage, act = self._broker_outage, "count"
            try:
                self._wait_for_room()
                outage.back(act)
                outage, act = self._queue_outage, "receive"
                called_at = time.time()
                batch = self._queue.receive(lane, self._queue.wait_seconds)
                outage.back(act)
                if batch is None:
                    is_idle = True
                    continue
                self._busy.add(lane)
                batches += 1
                self._pass_on(batch, hand_over, batches, None if is_idle else called_at)
                is_idle = False
            except Unreachable as error:
                outage.away(act, error)
                self._stopping.wait(1.0)
            except Exception as error:
                # A lane that is gone would be missed by nobody: end, and be started again.
                self._failure = error
                self._stopping.set()
                if not isinstance(error, QueueError):
                    raise
            finally:
                self._busy.discard(lane)

    def _wait_for_room(self) -> None:
        """Leave the backlog in the queue under test while Celery has enough to do."""
        waited = 0.0
        while not self._has_room():
            if self._stopping.wait(ROOM_PAUSE_SECONDS):
                break
            waited += ROOM_PAUSE_SECONDS
        if waited:
            self._telemetry.record(None, Stage.HAND_OVER, counts={Count.HELD_BACK_MS: round(waited * 1000)})

    def _has_room(self) -> bool:
        """Count what Celery has to do; what one lane found to be too much, the others need not count."""
        if time.monotonic() - self._full_at < ROOM_PAUSE_SECONDS:
            return False
        if sum(self._broker.backlog()) < self._settings.celery_backlog_limit:
            return True
        self._full_at = time.monotonic()
        return False

    def _pass_on(self, batch: Batch, hand_over: HandOver, number: int, called_at: float | None) -> None:
        received_at, received = time.time(), time.perf_counter()
        began_at = fetch_began_at(batch, called_at, received_at)
        messages, broken = read(batch)
        broker, queue = self._broker_outage, self._queue_outage
        if not self._persist(
            broker, "hand over", lambda: hand_over.hand_over(messages, broken, number), batch.deadline
        ):
            return
        handed_over_at, seconds = time.time(), time.perf_counter() - received
        # What was handed over and not acknowledged comes again: a duplicate, so try as long as it helps.
        self._persist(queue, "acknowledge", lambda: self._queue.acknowledge(batch), batch.deadline)
        for run, group in groupby(messages, key=attrgetter("run")):
            of_run = list(group)
            waits = [received_at - at for message in of_run if (at := message.intended_at) is not None]
            # Of a run that it belongs to, what has no time is counted and no more: it is its warm-up.
            timed = len(waits) if run is not None else len(of_run)
            counts = {Count.RECEIVED: len(of_run), Count.HANDED_OVER: len(of_run)}
            if timed < len(of_run):
                counts[Count.UNTIMED] = len(of_run) - timed
            self._telemetry.record(
                run,
                Stage.QUEUE_WAIT,
                counts=counts,
                durations=waits,
                started_at=began_at,
                ended_at=received_at if timed else 0.0,
            )
            for stage, waits in tenants_waits(of_run, received_at):
                self._telemetry.record(run, stage, durations=waits)
            if timed:
                self._telemetry.record(
                    run,
                    Stage.HAND_OVER,
                    latencies=((seconds, timed),),
                    started_at=received_at,
                    ended_at=handed_over_at,
                )
        for letter in broken:
            self._telemetry.record(
                letter.run, Stage.QUEUE_WAIT, counts={Count.RECEIVED: 1, Count.DEAD_LETTERED: 1}
            )

    def _persist(self, outage: Outage, name: str, act: Callable[[], None], deadline: float) -> bool:
        """Repeat an act while its server does not answer; False: it is no use any more."""
        pause = 0.05
        while True:
            try:
                act()
                outage.back(name)
                return True
            except Unreachable as error:
                outage.away(name, error)
                if time.monotonic() + pause > deadline or self._stopping.wait(pause):
                    return False
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


def fetch_began_at(batch: Batch, called_at: float | None, received_at: float) -> float:
    """Return when taking a batch began, in Unix seconds: the wait for its first message is no work.

    Args:
        batch: what was received.
        called_at: when it was asked for; None: by a lane that had been waiting for messages already.
        received_at: when it was there.
    """
    if batch.fetch_seconds is not None:
        return received_at - batch.fetch_seconds
    if called_at is None or received_at - called_at > LONGEST_FETCH_SECONDS:
        return received_at
    return called_at


def tenants_waits(messages: Sequence[Message], received_at: float) -> Iterator[tuple[Stage, list[float]]]:
    """Yield how long messages of quiet tenants waited, and those of the noisy one, in seconds."""
    for stage, begins in ((Stage.QUEUE_WAIT_QUIET, QUIET), (Stage.QUEUE_WAIT_NOISY, NOISY)):
        waits = [
            received_at - at
            for message in messages
            if message.tenant is not None
            and message.tenant.startswith(begins)
            and (at := message.intended_at) is not None
        ]
        if waits:
            yield stage, waits


def read(batch: Batch) -> tuple[Sequence[Message], Sequence[DeadLetter]]:
    """Return what of a batch are messages, and what is none with the reason."""
    messages, broken = [], []
    for body, received_id in zip(batch.bodies, batch.ids, strict=True):
        try:
            messages.append(decode(body, received_id))
        except MessageError as error:
            run, number = place_of(body)
            broken.append(DeadLetter(str(error), body, id=received_id or "", run=run, number=number))
    return messages, broken
