"""The Celery app and its task: `celery -A task worker` makes the POSTs.

Any Celery code may call it too: `push_data.delay("+5511999990000", "hello")`.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import Reject
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps

from queuebench import dead_letters, open_files, settings
from queuebench.broker import Broker, celery_settings
from queuebench.errors import QueueBenchError, Unreachable
from queuebench.message import Message
from queuebench.printable import escape_record
from queuebench.push import GivenUp, Pusher, Stopped
from queuebench.telemetry import Telemetry

SETTINGS = settings.load_or_exit("task")

app = Celery("task")
app.conf.update(
    celery_settings(SETTINGS.redis_celery_url, SETTINGS.worker_slots),
    task_serializer="json",
    accept_content=["json"],
    worker_pool="threads",
    worker_hijack_root_logger=True,
    worker_redirect_stdouts=False,
)

pusher = Pusher(
    SETTINGS.push_url,
    SETTINGS.worker_slots,
    SETTINGS.push_seconds,
    SETTINGS.push_timeout,
    SETTINGS.push_tries,
)
broker = Broker(SETTINGS.redis_celery_url)
# What is bounded is the shipments under way, however many come in one task.
slots = ThreadPoolExecutor(SETTINGS.worker_slots, "slot")
telemetry = Telemetry("worker", SETTINGS.monitor_url, slots=SETTINGS.worker_slots)


@app.task(name="push_data", bind=True)
def push_data(
    self: Task,
    phone: str,
    message: str,
    run: str | None = None,
    number: int | None = None,
    intended_at: float | None = None,
    handed_over_at: float | None = None,
) -> None:
    """Ship one message; the task's id is the message's. Times are Unix seconds."""
    ship(Message(self.request.id, phone, message, run, number, intended_at), handed_over_at)


@app.task(name="push_several", bind=True)
def push_several(self: Task, shipments: list[Any], handed_over_at: float | None = None) -> None:
    """Ship several messages, each in a slot of its own; those that a stop interrupts go back alone."""
    messages = [Message(*fields) for fields in shipments]
    shipped = [slots.submit(ship, message, handed_over_at) for message in messages]
    left = []
    for message, failure in zip(messages, [one.exception() for one in shipped], strict=True):
        if isinstance(failure, Reject):
            left.append(message)
        elif failure is not None:
            keep(dead_letters.of_message(message, f"{type(failure).__name__}: {failure}"))
    if not left:
        return
    try:
        self.apply_async((left, handed_over_at))
    except OperationalError as error:
        raise Reject(str(error), requeue=True) from error


def ship(message: Message, handed_over_at: float | None) -> None:
    """Deliver a message or, after its last try, put it with the dead letters."""
    began_at, began = time.time(), time.perf_counter()
    if handed_over_at is not None:
        telemetry.record(message.run, "celery_wait", latencies=((began_at - handed_over_at, 1),))
    counts = {"pushed": 1}
    try:
        posts = pusher.push(message)
        if posts > 1:
            counts["retried"] = posts - 1
    except Stopped as stopped:
        raise Reject(str(stopped), requeue=True) from None
    except GivenUp as failure:
        counts = {"dead_lettered": 1}
        keep(dead_letters.of_message(message, str(failure)))
    seconds = time.perf_counter() - began
    telemetry.record(
        message.run,
        "push",
        counts=counts,
        latencies=((seconds, 1),),
        started_at=began_at,
        ended_at=began_at + seconds,
    )


def keep(letter: dead_letters.DeadLetter) -> None:
    """Put a dead letter into the broker, however long that is away."""
    while True:
        try:
            broker.add_dead_letter(letter)
            return
        except Unreachable as error:
            if pusher.stopping.wait(1.0):
                raise Reject(str(error), requeue=True) from None


@signals.task_failure.connect
def _keep_failed(
    sender: Any = None, task_id: str = "", exception: Any = None, args: Any = (), kwargs: Any = None, **_: Any
) -> None:
    """Keep a task that can't be run, as with arguments that are none of its own: Celery drops it."""
    call = dumps({"task": sender.name, "args": args, "kwargs": kwargs}).encode()
    keep(dead_letters.DeadLetter(f"{type(exception).__name__}: {exception}", call, "task", task_id))


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def _escape_logs(logger: logging.Logger, **_: Any) -> None:
    """Let no message id, which Celery logs with a task, break out of its line."""
    for handler in logger.handlers:
        handler.addFilter(escape_record)


@signals.worker_ready.connect
def _report(sender: Any = None, **_: Any) -> None:
    telemetry.slots = sender.controller.concurrency
    telemetry.start()
    where = SETTINGS.push_url or f"nowhere: a POST is a sleep of {SETTINGS.push_seconds:g} s"
    print(f"worker: ready, {telemetry.slots} slots → {where}", flush=True)


@signals.worker_shutting_down.connect
def _give_back(**_: Any) -> None:
    """Let shipments that are waiting for their next try go back to the broker."""
    pusher.stopping.set()


@signals.worker_shutdown.connect
def _report_the_end(**_: Any) -> None:
    telemetry.close()


@signals.celeryd_init.connect
def _check(**_: Any) -> None:
    open_files.raise_limit()
    try:
        broker.check()
    except QueueBenchError as error:
        raise SystemExit(f"worker: {error}") from None
