"""Plain Celery on kombu's Redis transport, set up with care: what the same faults are done to beside ours.

    celery -A tests.faults.stock_app worker -P threads
    python -m tests.faults.stock_app COUNT RUN FILE    sends, and notes in FILE what the broker has taken

Tasks are acknowledged late, and come back after 30 s; what fails is tried again with a growing pause, eight
times, and kept in a list with its reason when that was the last; a permanent answer is kept at once.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import requests
from celery import Celery, Task
from celery.signals import worker_ready
from redis import Redis

VISIBILITY_SECONDS = 30
TRIES = 8
URL = os.environ.get("REDIS_CELERY_URL", "redis://127.0.0.1:6379/1")
SETTINGS: dict[str, Any] = {
    "broker_url": URL,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_SECONDS,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # for ever
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 1,
}

app = Celery("stock", set_as_current=False)
app.conf.update(SETTINGS)
_own = threading.local()


class Refused(Exception):
    """The endpoint will never take it."""


class Keeping(Task):  # type: ignore[misc]
    """A task that is kept, with the reason, when it has failed for the last time."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        with Redis.from_url(URL) as client:
            client.rpush("dead_letters", orjson.dumps({"id": task_id, "reason": str(exc), "args": args}))


@app.task(
    name="push_data",
    bind=True,
    base=Keeping,
    autoretry_for=(requests.RequestException,),
    retry_backoff=True,
    retry_backoff_max=30,
    max_retries=TRIES,
)
def push_data(self: Task, phone: str, message: str) -> None:
    """Ship one message; the task's id is the message's."""
    if message == "poison":
        os.kill(os.getpid(), 9)
    session = _own.__dict__.setdefault("session", requests.Session())
    answer = session.post(
        os.environ["PUSH_URL"],
        json={"phone": phone, "message": message},
        headers={"Idempotency-Key": self.request.id},
        timeout=float(os.environ.get("PUSH_TIMEOUT", "60")),
    )
    if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
        raise Refused(f"the endpoint answered {answer.status_code}")
    answer.raise_for_status()


@worker_ready.connect(weak=False)
def _say(**_: Any) -> None:
    print("worker: ready", flush=True)


def publish(count: int, run: str, accepted: Path) -> None:
    """Send so many tasks, each again until the broker has taken it."""
    pause = float(os.environ.get("PUBLISHER_DELAY", "0"))
    with accepted.open("a", buffering=1) as taken:
        for number in range(count):
            while True:
                try:
                    push_data.apply_async(("+5511999990000", "hello"), task_id=f"{run}-{number}")
                    break
                except Exception as error:
                    print(f"publisher: {error}", flush=True)
                    time.sleep(0.5)
            taken.write(f"{number}\n")
            time.sleep(random.uniform(0.0, pause))


if __name__ == "__main__":
    publish(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
