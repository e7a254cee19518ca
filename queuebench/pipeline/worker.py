"""What a worker does with a task: ship its messages, keep what fails, give back what a stop cuts short.

A task is acknowledged once all that it has to ship has been delivered or is kept as a dead letter. Until
then it stays in flight, whatever goes wrong.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from celery import bootsteps, signals
from celery.exceptions import Ignore, Reject, Retry
from celery.worker import state
from kombu.utils.json import dumps

from queuebench.broker import dead_letters
from queuebench.broker.broker import CELERY_QUEUE, Broker
from queuebench.broker.transport.celery import Request
from queuebench.broker.transport.poller import wake_all
from queuebench.errors import MessageError, QueueBenchError, TryLater
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.message import Message
from queuebench.pipeline.post import Course, GivenUp, Pusher, Stopped
from queuebench.pipeline.slots import Slots
from queuebench.plumbing import open_files
from queuebench.plumbing.outage import Outage, persist
from queuebench.plumbing.printable import escape_record, safe_url
from queuebench.settings import Settings

# Of tasks that wait for the next try of one of their shipments; each has a thread or a greenlet.
MOST_WAITING = 1000
KEEP_PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Worker:
    """The worker's side of the pipeline; nothing connects before the first task.

    Bounded: `tasks` of them are held at a time, of 64 MiB together where they are large.
    """

    def __init__(self, settings: Settings) -> None:
        slots = settings.worker_slots
        self._where = safe_url(settings.push_url)
        self._where = self._where or f"nowhere: a POST is a sleep of {settings.push_seconds:g} s"
        try:
            self._pusher = Pusher(
                settings.push_url, slots, settings.push_seconds, settings.push_timeout, settings.push_tries
            )
        except QueueBenchError as error:
            print(f"task: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        self._broker = Broker(settings.redis_celery_url)
        # Those that end together begin together, and so do those that follow. While hundreds end, nobody
        # claims what is to follow them, so some of it waits here already.
        self._at_hand = slots + slots // 8
        self.tasks = self._at_hand + MOST_WAITING
        self._slots = Slots(slots, slots + MOST_WAITING)
        self._credit = _Credit(MOST_WAITING)
        self._unkept = 0
        self._telemetry = Telemetry("worker", settings.monitor_url, slots=slots)

    def push(self, message: Message, handed_over_at: float | None) -> None:
        """Deliver a message or put it with the dead letters.

        Raises:
            Reject: the worker is to stop; the task goes back to the broker.
        """
        try:
            with self._credit.of_task() as waits:
                self._push(message, handed_over_at, waits)
        except MemoryError as error:
            raise Reject(str(error), requeue=True) from error
        except Exception:
            raise
        except BaseException as cut_short:
            # A thread that is told to end, a greenlet that is killed: Celery takes the latter for a success.
            raise Reject(_reason(cut_short), requeue=True) from None

    def push_several(self, messages: Sequence[Message], handed_over_at: float | None) -> list[Message]:
        """Ship each message, and return those that a stop has cut short."""
        with self._credit.of_task() as waits:

            def push(message: Message) -> None:
                lent = False

                def lend() -> None:
                    nonlocal lent
                    waits()
                    if not lent:
                        lent = True
                        self._slots.lend(1)

                try:
                    self._push(message, handed_over_at, lend)
                finally:
                    if lent:
                        self._slots.lend(-1)

            failed = self._slots.each(push, messages)
        left = []
        for message, failure in failed:
            if isinstance(failure, Exception) and not isinstance(failure, Reject):
                self.keep(dead_letters.of_message(message, _reason(failure)))
            else:
                left.append(message)
        return left

    def _push(self, message: Message, handed_over_at: float | None, waits: Callable[[], object]) -> None:
        course, failure = Course(), ""
        try:
            self._pusher.push(message, course, waits)
        except Stopped as stopped:
            raise Reject(str(stopped), requeue=True) from None
        except GivenUp as given_up:
            failure = str(given_up)
        seconds = time.perf_counter() - course.began
        if failure:
            self.keep(dead_letters.of_message(message, failure))
        try:
            self._note(message, handed_over_at, course, seconds, bool(failure))
        except Exception:
            # It has been shipped or kept: no figure is worth doing that again.
            log.exception("a shipment is missing from the figures")

    def _note(
        self, message: Message, handed_over_at: float | None, course: Course, seconds: float, failed: bool
    ) -> None:
        counts, record = {Count.DEAD_LETTERED if failed else Count.PUSHED: 1}, self._telemetry.record
        if len(course.post_seconds) > 1:
            counts[Count.RETRIED] = len(course.post_seconds) - 1
        if message.is_untimed:
            record(message.run, Stage.PUSH, counts=counts | {Count.UNTIMED: 1})
            return
        if handed_over_at is not None:
            record(message.run, Stage.CELERY_WAIT, durations=(course.began_at - handed_over_at,))
        record(message.run, Stage.POST, durations=course.post_seconds)
        record(
            message.run,
            Stage.PUSH,
            counts=counts,
            durations=(seconds,),
            started_at=course.began_at,
            ended_at=course.began_at + seconds,
        )

    def keep(self, letter: dead_letters.DeadLetter) -> None:
        """Put a dead letter into the broker, however long that takes.

        Raises:
            Reject: the worker is to stop; the task goes back to the broker.
        """
        said = False
        try:
            while True:
                try:
                    self._broker.add_dead_letter(letter)
                    break
                except Exception as error:
                    if not said:
                        said = True
                        self._unkept += 1
                        if self._unkept == 1:
                            log.warning(
                                "dead letters can't be kept, so their tasks stay in flight: %s", error
                            )
                    if self._pusher.stopping.wait(KEEP_PAUSE_SECONDS):
                        raise Reject(str(error), requeue=True) from None
        finally:
            if said:
                self._unkept -= 1
        if said and not self._unkept:
            log.warning("dead letters are kept again")

    def attach(self, app: Any) -> None:
        """Follow the worker that runs this process, if one does: its start and its stop."""
        KeptRequest.keeper = self
        self._credit.at_hand = self._at_hand
        app.steps["consumer"].add(self._credit.step())
        for signal, receiver in (
            (signals.celeryd_init, self._check),
            (signals.worker_ready, self._ready),
            (signals.worker_shutting_down, self._give_back),
            (signals.worker_shutdown, self._end),
            (signals.task_internal_error, _note_never_begun),
            (signals.after_setup_logger, _escape_logs),
            (signals.after_setup_task_logger, _escape_logs),
        ):
            signal.connect(receiver, weak=False)

    def _check(self, options: Mapping[str, Any] | None = None, **_: Any) -> None:
        open_files.raise_limit()
        queues = (options or {}).get("queues") or [CELERY_QUEUE]
        try:
            outage = Outage("worker", "the broker")
            persist(outage, "start", lambda: self._broker.check("work", queues), on=TryLater)
            self._pusher.check()
        except QueueBenchError as error:
            print(f"worker: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    def _ready(self, sender: Any = None, **_: Any) -> None:
        self._telemetry.slots = min(sender.controller.concurrency, self._telemetry.slots)
        self._telemetry.start()
        print(f"worker: ready, {self._telemetry.slots} slots → {self._where}", flush=True)

    def _give_back(self, **_: Any) -> None:
        """Let shipments that are waiting for their next try go back to the broker."""
        self._pusher.stopping.set()

    def _end(self, **_: Any) -> None:
        self._telemetry.close()


class KeptRequest(Request):
    """A task that is acknowledged when it has failed only once it is kept as a dead letter.

    Celery's own signal for a failed task comes as well, but what goes wrong in its receivers is swallowed.
    """

    keeper: ClassVar[Worker]
    never_begun: ClassVar[dict[str, BaseException]] = {}

    def acknowledge(self) -> None:
        """Acknowledge; one that failed before it began, which Celery takes for a success, once it is kept."""
        failure = self.never_begun.pop(self.id, None) if self.never_begun else None
        if failure is None or self._is_kept(failure):
            super().acknowledge()
        else:
            self.reject(requeue=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A caller's limit would end a shipment unfinished.
        self.time_limits = (None, None)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Give back what a limit that was set while it ran has ended; Celery would acknowledge it."""
        if not soft:
            state.task_ready(self)
            self.reject(requeue=True)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Keep a task that failed, with its envelope."""
        failure = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(failure, (Reject, Ignore, Retry)) or not isinstance(failure, Exception):
            return super().on_failure(exc_info, send_failed_event, return_ok)
        if not self._is_kept(failure):
            return self.reject(requeue=True)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _is_kept(self, failure: BaseException) -> bool:
        """Keep it; False: the worker is to stop before that could be done."""
        envelope = dumps(self._message._raw).encode()
        try:
            self.keeper.keep(dead_letters.of_task(envelope, _reason(failure)))
        except Reject:
            return False
        return True


def message_of(
    id: str, phone: Any, text: Any, run: Any = None, number: Any = None, intended_at: Any = None
) -> Message:
    """Return the message that a task's arguments describe, whoever called it.

    Raises:
        MessageError: they describe none.
    """
    for name, value in (("phone", phone), ("message", text)):
        if type(value) is not str or not value:
            raise MessageError(f"{name} must be a non-empty string")
    if run is not None and type(run) is not str:
        raise MessageError("run must be a string")
    if number is not None and (type(number) is not int or not 0 <= number < 2**64):
        raise MessageError("number must be a whole number from 0")
    if type(id) is not str:
        raise MessageError("id must be a string")
    message = Message(id, phone, text, run, number, time_of(intended_at))
    try:
        message.encode()
    except (TypeError, ValueError) as error:
        raise MessageError(f"it cannot be encoded: {error}") from None
    return message


def time_of(value: Any) -> float | None:
    """Return Unix seconds, or None where it is no time: a figure less, but no reason not to ship."""
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < 1e11:
        return None
    return float(value)


def _reason(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {failure}"


class _Credit:
    """How many tasks the broker may give this worker: some at hand, and one for each that only waits."""

    def __init__(self, most_waiting: int) -> None:
        self.at_hand = 0
        self._most, self._waiting = most_waiting, 0
        self._lock = threading.Lock()
        self._consumer: Any = None

    def step(self) -> type:
        """Return a step of Celery's consumer that lets it begin with what is to be at hand."""
        credit = self

        class Begin(bootsteps.StartStopStep):  # type: ignore[misc]
            def __init__(self, consumer: Any, **options: Any) -> None:
                credit._consumer = consumer
                if not 0 < consumer.initial_prefetch_count <= credit.at_hand:
                    consumer.initial_prefetch_count = credit.at_hand
                super().__init__(consumer, **options)

        return Begin

    def of_task(self) -> _TaskCredit:
        """Return what raises the credit once a task waits, and lowers it at its end."""
        return _TaskCredit(self)

    def borrow(self) -> Any:
        """Raise it by one; return what it was raised at, or None where enough wait already."""
        with self._lock:
            qos = getattr(self._consumer, "qos", None)
            if qos is None or self._waiting >= self._most:
                return None
            self._waiting += 1
        qos.increment_eventually()
        wake_all()
        return qos

    def give_back(self, qos: Any) -> None:
        """Lower it again. After a new connection it is another one that counts, and has begun anew."""
        with self._lock:
            self._waiting -= 1
        qos.decrement_eventually()


class _TaskCredit:
    __slots__ = ("_credit", "_qos")

    def __init__(self, credit: _Credit) -> None:
        self._credit = credit
        self._qos: Any = None

    def __enter__(self) -> Callable[[], None]:
        return self._wait

    def _wait(self) -> None:
        if self._qos is None:
            self._qos = self._credit.borrow()

    def __exit__(self, *_: object) -> None:
        if self._qos is not None:
            self._credit.give_back(self._qos)


def _note_never_begun(task_id: str = "", exception: Any = None, **_: Any) -> None:
    KeptRequest.never_begun[task_id] = exception


def _escape_logs(logger: logging.Logger, **_: Any) -> None:
    """Let no message id, which Celery logs with a task, break out of its line."""
    for handler in logger.handlers:
        handler.addFilter(escape_record)
        handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than that a stopping worker gives a task back."""
    return record.exc_info is None or not isinstance(record.exc_info[1], Reject)
