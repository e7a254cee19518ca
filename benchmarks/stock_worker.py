"""The worker of a good user of Celery and requests: `celery -A benchmarks.stock_worker worker -P gevent`.

Stock kombu with `acks_late`, so that a killed worker's tasks come back; one session for all, whose adapter
has a connection for each slot; a prefetch that keeps every slot of a gevent pool busy.
"""

from __future__ import annotations

import os

import requests
from celery import Celery
from requests.adapters import HTTPAdapter

SLOTS = int(os.environ.get("WORKER_SLOTS", "1000"))
URL = os.environ.get("PUSH_URL", "")

app = Celery("stock", broker=os.environ.get("REDIS_CELERY_URL"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    # Else each greenlet builds a result backend of its own.
    result_backend_thread_safe=True,
    worker_concurrency=SLOTS,
    worker_prefetch_multiplier=2,
    # As many connections as acknowledgements at once, else some fail.
    broker_transport_options={"max_connections": 2 * SLOTS, "unacked_restore_throttle": 1},
)

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=SLOTS))


@app.task(name="push", bind=True, max_retries=8)  # type: ignore[untyped-decorator]
def push(self, phone: str, message: str) -> None:  # type: ignore[no-untyped-def]
    """Ship one message."""
    try:
        answer = session.post(
            URL,
            json={"phone": phone, "message": message},
            headers={"Idempotency-Key": self.request.id},
            timeout=(5, 60),
        )
        answer.raise_for_status()
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=1) from error
