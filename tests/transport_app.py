"""The Celery app of the transport's tests, for workers in processes of their own and for their clients."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from celery import Celery
from celery.exceptions import Reject
from kombu.serialization import register
from kombu.utils.json import dumps, loads

from queuebench.broker import transport


def stop_once() -> None:
    """Send this worker, which leads its session, SIGQUIT, unless one was sent it before."""
    marker = Path(f"{os.environ['APP_DONE']}.stopped")
    if not marker.exists():
        marker.touch()
        os.kill(os.getsid(0), signal.SIGQUIT)


def loads_and_stops(text: str | bytes) -> object:
    """Decode a message; the signal comes before it has become a task."""
    stop_once()
    return loads(text)


def make(url: str, kind: str, slots: int, options: dict[str, object]) -> Celery:
    """Return an app that reaches `url` with this project's transport or with kombu's own."""
    app = Celery("transport_app", set_as_current=False)
    if kind == "leased":
        app.conf.update(transport.celery_settings(url, slots, **options))
    else:
        app.conf.update(broker_url=url, task_acks_late=True, task_ignore_result=True)
    app.conf.update(worker_hijack_root_logger=True, task_queue_max_priority=10)
    app.conf.update(accept_content=["json", "stopping-json"])
    register("stopping-json", dumps, loads_and_stops, "application/x-stopping-json", "utf-8")

    def write(entry: str) -> None:
        with Path(os.environ["APP_DONE"]).open("a") as done:
            done.write(f"{entry}\n")

    @app.task(name="note", shared=False)
    def note(entry: str, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        write(entry)

    @app.task(name="stops", shared=False)
    def stops(entry: str) -> None:
        stop_once()
        time.sleep(0.2)
        write(entry)

    @app.task(name="poison", shared=False, bind=True)
    def poison(self) -> None:
        write(f"poison-{self.request.delivery_info['redelivered']}")
        os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="stubborn", shared=False, bind=True)
    def stubborn(self) -> None:
        """Put itself back on the queue once."""
        write(f"stubborn-{bool(self.request.delivery_info['redelivered'])}")
        if not self.request.delivery_info["redelivered"]:
            raise Reject("again", requeue=True)

    @app.task(name="rejected", shared=False)
    def rejected() -> None:
        write("rejected")
        raise Reject("never", requeue=False)

    @app.task(name="again", shared=False, bind=True, max_retries=1)
    def again(self) -> None:
        write(f"again-{self.request.retries}")
        if not self.request.retries:
            raise self.retry(countdown=0.1)

    return app


if "APP_URL" in os.environ:
    app = make(
        os.environ["APP_URL"],
        os.environ["APP_TRANSPORT"],
        int(os.environ["APP_SLOTS"]),
        json.loads(os.environ["APP_OPTIONS"]),
    )
