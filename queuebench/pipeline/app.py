"""The Celery app and its tasks: `celery -A queuebench.pipeline.app worker` makes the POSTs.

Any Celery code may call it too: `push_data.delay("+5511999990000", "hello")`.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

from queuebench import settings
from queuebench.broker.broker import celery_settings
from queuebench.broker.own_settings import OWN_SETTINGS
from queuebench.broker.transport.options import refuse_options
from queuebench.pipeline.worker import Worker, message_of, time_of
from queuebench.plumbing.printable import make_output_safe

make_output_safe()

SETTINGS = settings.load_or_exit("worker")

worker = Worker(SETTINGS)
app = Celery("queuebench", **OWN_SETTINGS)
app.conf.update(
    celery_settings(SETTINGS.redis_celery_url, worker.tasks),
    task_annotations={"*": {"Request": "queuebench.pipeline.worker:KeptRequest"}},
    task_serializer="json",
    accept_content=["json"],
    worker_pool="threads",
    worker_hijack_root_logger=True,
    worker_redirect_stdouts=False,
)

refuse_options("threads", "gevent")
worker.attach(app)


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
    shipment = message_of(self.request.id, phone, message, run, number, intended_at)
    worker.push(shipment, time_of(handed_over_at))


@app.task(name="push_several", bind=True)
def push_several(self: Task, shipments: list[Any], handed_over_at: float | None = None) -> None:
    """Ship several messages, each in a slot of its own; those that a stop cuts short go back alone."""
    messages = [message_of(*fields) for fields in shipments]
    left = worker.push_several(messages, time_of(handed_over_at))
    if left:
        try:
            self.apply_async(([message.task_arguments for message in left], handed_over_at))
        except Exception as error:
            raise Reject(str(error), requeue=True) from error
