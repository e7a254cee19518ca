"""Receive from Redis and hand over to Celery: a subscriber, the original's loop, and kombu's own batching.

The subscriber gives its guarantees (in-flight list, marker of the last batch); the others give none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import cast

import orjson
from celery import Celery
from redis import Redis

from benchmarks.harness import Bench, Row, Sample, cpu_seconds, fill, median, timed, times, until
from benchmarks.publish import bodies

KEY = "phone_numbers"


def plain_app(url: str) -> Celery:
    """Return an app as Celery makes it."""
    app = Celery("plain", broker=url, set_as_current=False)
    app.conf.task_ignore_result = True

    @app.task(name="push", shared=False)  # type: ignore[untyped-decorator]
    def push(phone: str, message: str) -> None:
        """Stand for the task; nobody runs it here."""

    return app


def one_by_one(client: Redis, app: Celery) -> None:
    """Hand over as the original did."""
    task = app.tasks["push"]
    while (body := client.lpop(KEY)) is not None:
        client.llen(KEY)
        message = orjson.loads(cast("bytes", body))
        task.delay(message["p"], message["m"])


def in_batches(client: Redis, app: Celery) -> None:
    """Hand over as kombu's `Producer.batch` lets a good user do it."""
    task = app.tasks["push"]
    with app.amqp.producer_pool.acquire(block=True) as producer:
        while taken := client.lpop(KEY, 500):
            with producer.batch(500):
                for body in cast("list[bytes]", taken):
                    message = orjson.loads(body)
                    task.apply_async((message["p"], message["m"]), producer=producer)


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    many, few = bench.sized(200_000), bench.sized(5_000)
    with closing(bench.stack("REDIS", {"CELERY_BACKLOG_LIMIT": "10000000", "MONITOR_URL": ""})) as stack:
        for name in ("redis", "broker"):
            stack.add_redis(name).start()
        queue_url, broker_url = (stack.environment[f"REDIS_{name}_URL"] for name in ("PUBSUB", "CELERY"))
        client, broker = Redis.from_url(queue_url), Redis.from_url(broker_url)
        sent = bodies(many)
        app = plain_app(broker_url)
        subscriber = stack.add_subscriber(1)

        def ours() -> Sample:
            broker.flushall()
            client.flushall()
            subscriber.start()
            cpu = cpu_seconds(subscriber)
            fill(client, KEY, sent)
            clock = time.perf_counter()
            until(lambda: broker.llen("celery") == many, 0.005)
            sample = Sample(many, time.perf_counter() - clock, cpu_seconds(subscriber) - cpu)
            subscriber.stop()
            return sample

        def plain(work: Callable[[Redis, Celery], None]) -> Sample:
            broker.flushall()
            client.flushall()
            fill(client, KEY, sent[:few])
            sample = timed(few, lambda: work(client, app))
            assert broker.llen("celery") == few
            return sample

        samples = bench.alternate(
            {
                "subscriber": ours,
                "LPOP, LLEN, delay() one by one": lambda: plain(one_by_one),
                "LPOP 500, Producer.batch(500)": lambda: plain(in_batches),
            }
        )
        mine, original, batched = (median(of, lambda sample: sample.rate) for of in samples.values())
        stage = "receive + hand-over, Redis, one subscriber with its guarantees"
        for baseline, theirs, target in (
            ("`LPOP`, `LLEN`, `.delay()` one by one", original, 60),
            ("`LPOP` of 500, Celery's `Producer.batch`", batched, 20),
        ):
            ratio, reached = times(mine, theirs, target)
            yield Row(stage, baseline, f"{mine:,.0f}/s", f"{theirs:,.0f}/s", ratio, f"{target} ×", reached)
