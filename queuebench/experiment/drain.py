"""The drain: takes tasks off Celery's list in the place of workers and endpoint, and keeps their ids.

So the queue and its subscribers can be measured on a machine that could not carry the POSTs too. A run with
a drain is of scope `queue`. What it takes is never shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from queuebench import settings as settings_module
from queuebench.broker.broker import Broker
from queuebench.endpoint.endpoint import Receive, Scope, Send, answer_get
from queuebench.endpoint.tally import Tally
from queuebench.errors import QueueError, TryLater
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.plumbing.outage import Outage, persist
from queuebench.plumbing.serve import serve

MOST_TASKS, MOST_BYTES = 1000, 4 * 2**20  # that one call takes
PAUSE_SECONDS = 0.005  # after a call that found nothing
AWAY_SECONDS = 0.5  # after one that the broker did not answer


class Drain:
    """The ASGI application, and the thread that takes the tasks.

    Bounded: a call takes at most 1,000 tasks, and only as many as fit into 4 MiB if they are as large as
    the largest of the call before; the tally's own bounds are in `Tally`.
    """

    def __init__(self, broker: Broker, telemetry: Telemetry) -> None:
        self._broker, self._telemetry = broker, telemetry
        self.tally = Tally()
        self._lock = threading.Lock()  # around the tally: it is asked by the event loop
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._take_for_ever, name="drain", daemon=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as an endpoint would: it is asked for the tally, and takes no POST."""
        if scope["type"] == "http":
            await asyncio.to_thread(self._lock.acquire)
            try:
                await answer_get(self.tally, scope, send)
            finally:
                self._lock.release()
            return
        while scope["type"] == "lifespan":
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._thread.start()
            else:
                self._stopping.set()
                await asyncio.to_thread(self._thread.join, 10.0)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    def _take_for_ever(self) -> None:
        most = MOST_TASKS
        while not self._stopping.is_set():
            began_at = time.time()
            try:
                taken = self._broker.take_tasks(most)
            except QueueError:
                self._stopping.wait(AWAY_SECONDS)
                continue
            if not taken:
                self._stopping.wait(PAUSE_SECONDS)
                continue
            most = max(1, min(MOST_TASKS, MOST_BYTES // max(map(len, taken))))
            self._note(taken, began_at)

    def _note(self, taken: Sequence[bytes], began_at: float) -> None:
        runs: Counter[str] = Counter()
        with self._lock:
            for envelope in taken:
                for shipment_id in ids_of(envelope):
                    runs[self.tally.add(shipment_id)] += 1
        ended_at = time.time()
        for run, count in runs.items():
            self._telemetry.record(
                run, Stage.ANSWER, counts={Count.ARRIVED: count}, started_at=began_at, ended_at=ended_at
            )


def ids_of(envelope: bytes) -> list[str]:
    """Return the ids of the messages that a task would have shipped; of one that nobody can read, none."""
    try:
        message = orjson.loads(envelope)
        headers = message["headers"]
        if headers["task"] != "push_several":
            return [str(headers["id"])]
        shipments: list[list[Any]] = orjson.loads(b64decode(message["body"]))[0][0]
        return [str(shipment[0]) for shipment in shipments]
    except (ValueError, TypeError, KeyError, IndexError):
        return []


def main(argv: list[str]) -> int:
    """Take tasks until stopped."""
    parser = argparse.ArgumentParser(prog="python -m queuebench drain", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: 8000)")
    options = parser.parse_args(argv)
    settings = settings_module.load()
    broker = Broker(settings.redis_celery_url)
    persist(Outage("drain", "the broker"), "start", lambda: broker.check("drain"), on=TryLater)
    telemetry = Telemetry("drain", settings.monitor_url)
    return serve(Drain(broker, telemetry), "drain", options.host, options.port, telemetry)
