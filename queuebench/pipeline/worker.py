"""What a worker does with a task: ship its messages, keep what fails, give back what a stop cuts short."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from celery import signals
from celery.exceptions import Reject
from kombu.utils.json import dumps

from queuebench.broker import dead_letters
from queuebench.broker.broker import Broker
from queuebench.errors import QueueBenchError, Unreachable
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.message import Message
from queuebench.pipeline.post import GivenUp, Pusher, Stopped
from queuebench.pipeline.slots import Slots
from queuebench.plumbing import open_files
from queuebench.plumbing.printable import escape_record
from queuebench.settings import Settings


class Shipping:
    """The worker's side of the pipeline; nothing connects before the first task."""

    def __init__(self, settings: Settings) -> None:
        self._where = settings.push_url or f"nowhere: a POST is a sleep of {settings.push_seconds:g} s"
        self._pusher = Pusher(
            settings.push_url,
            settings.worker_slots,
            settings.push_seconds,
            settings.push_timeout,
            settings.push_tries,
        )
        self._broker = Broker(settings.redis_celery_url)
        # What is bounded is the shipments under way, however many tasks there are and come in one.
        self._under_way = threading.Semaphore(settings.worker_slots)
        self._slots = Slots(settings.worker_slots)
        # Those that end together begin together, and so do those that follow. While hundreds end, nobody
        # claims what is to follow them, so some of it waits here already.
        self.tasks = settings.worker_slots + settings.worker_slots // 8
        self._telemetry = Telemetry("worker", settings.monitor_url, slots=settings.worker_slots)

    def ship(self, message: Message, handed_over_at: float | None) -> None:
        """Deliver a message once a slot is free or, after its last try, put it with the dead letters.

        Raises:
            Reject: the worker is to stop; the task goes back to the broker.
        """
        with self._under_way:
            self._ship(message, handed_over_at)

    def _ship(self, message: Message, handed_over_at: float | None) -> None:
        began_at, began = time.time(), time.perf_counter()
        if handed_over_at is not None:
            self._telemetry.record(
                message.run, Stage.CELERY_WAIT, latencies=((began_at - handed_over_at, 1),)
            )
        counts = {Count.PUSHED: 1}
        try:
            posts = self._pusher.push(message)
            if posts > 1:
                counts[Count.RETRIED] = posts - 1
        except Stopped as stopped:
            raise Reject(str(stopped), requeue=True) from None
        except GivenUp as failure:
            counts = {Count.DEAD_LETTERED: 1}
            self._keep(dead_letters.of_message(message, str(failure)))
        seconds = time.perf_counter() - began
        self._telemetry.record(
            message.run,
            Stage.PUSH,
            counts=counts,
            latencies=((seconds, 1),),
            started_at=began_at,
            ended_at=began_at + seconds,
        )

    def ship_several(self, messages: Sequence[Message], handed_over_at: float | None) -> list[Message]:
        """Ship each message in a slot of its own, and return those that a stop has cut short."""
        left = []
        for message, failure in self._slots.each(
            lambda message: self.ship(message, handed_over_at), messages
        ):
            if isinstance(failure, Reject):
                left.append(message)
            else:
                self._keep(dead_letters.of_message(message, f"{type(failure).__name__}: {failure}"))
        return left

    def _keep(self, letter: dead_letters.DeadLetter) -> None:
        """Put a dead letter into the broker, however long that is away."""
        while True:
            try:
                self._broker.add_dead_letter(letter)
                return
            except Unreachable as error:
                if self._pusher.stopping.wait(1.0):
                    raise Reject(str(error), requeue=True) from None

    def attach(self) -> None:
        """Follow the worker that runs this process, if one does: its start, its stop and its failures."""
        for signal, receiver in (
            (signals.celeryd_init, self._check),
            (signals.worker_ready, self._ready),
            (signals.worker_shutting_down, self._give_back),
            (signals.worker_shutdown, self._end),
            (signals.task_failure, self._keep_failed),
            (signals.after_setup_logger, _escape_logs),
            (signals.after_setup_task_logger, _escape_logs),
        ):
            signal.connect(receiver, weak=False)

    def _check(self, **_: Any) -> None:
        open_files.raise_limit()
        try:
            self._broker.check()
        except QueueBenchError as error:
            raise SystemExit(f"worker: {error}") from None

    def _ready(self, sender: Any = None, **_: Any) -> None:
        self._telemetry.slots = min(sender.controller.concurrency, self._telemetry.slots)
        self._telemetry.start()
        print(f"worker: ready, {self._telemetry.slots} slots → {self._where}", flush=True)

    def _give_back(self, **_: Any) -> None:
        """Let shipments that are waiting for their next try go back to the broker."""
        self._pusher.stopping.set()

    def _end(self, **_: Any) -> None:
        self._telemetry.close()

    def _keep_failed(
        self,
        sender: Any = None,
        task_id: str = "",
        exception: Any = None,
        args: Any = (),
        kwargs: Any = None,
        **_: Any,
    ) -> None:
        """Keep a task that can't be run, as with arguments that are none of its own: Celery drops it."""
        call = dumps({"task": sender.name, "args": args, "kwargs": kwargs}).encode()
        self._keep(dead_letters.DeadLetter(f"{type(exception).__name__}: {exception}", call, "task", task_id))


def _escape_logs(logger: logging.Logger, **_: Any) -> None:
    """Let no message id, which Celery logs with a task, break out of its line."""
    for handler in logger.handlers:
        handler.addFilter(escape_record)
        handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than that a stopping worker gives a task back."""
    return record.exc_info is None or not isinstance(record.exc_info[1], Reject)
