"""The Celery app and its tasks: `celery -A queuebench.pipeline.app worker` makes the POSTs.

Any Celery code may call it too: `push_data.delay("+5511999990000", "hello")`.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from queuebench import settings
from queuebench.broker.broker import celery_settings
from queuebench.message import Message
from queuebench.pipeline.worker import Shipping

SETTINGS = settings.load_or_exit("worker")

shipping = Shipping(SETTINGS)
app = Celery("queuebench")
app.conf.update(
    celery_settings(SETTINGS.redis_celery_url, shipping.tasks),
    task_serializer="json",
    accept_content=["json"],
    worker_pool="threads",
    worker_hijack_root_logger=True,
    worker_redirect_stdouts=False,
)

shipping.attach()


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
    shipping.ship(Message(self.request.id, phone, message, run, number, intended_at), handed_over_at)


@app.task(name="push_several", bind=True)
def push_several(self: Task, shipments: list[Any], handed_over_at: float | None = None) -> None:
    """Ship several messages, each in a slot of its own; those that a stop cuts short go back alone."""
    left = shipping.ship_several([Message(*fields) for fields in shipments], handed_over_at)
    if left:
        try:
            self.apply_async((left, handed_over_at))
        except OperationalError as error:
            raise Reject(str(error), requeue=True) from error
