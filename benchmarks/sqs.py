"""Publish to, and receive from, the local SQS: our CPU a message beside one call a message; then threads.

The subscriber receives, hands over to Celery and deletes; so does the plain way, with the same boto3.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import boto3
import orjson
from botocore.config import Config
from celery import Celery
from redis import Redis

from benchmarks.hand_over import plain_app
from benchmarks.harness import FULL_CORE, Bench, Row, Sample, cpu_seconds, median, timed, times, until
from benchmarks.publish import bodies, flood
from queuebench.bench.stack import Stack
from queuebench.queues import open_queue
from queuebench.queues.sqs import Sqs
from queuebench.settings import load

THREADS = (1, 4, 16, 32)
SETTINGS = {"CELERY_BACKLOG_LIMIT": "10000000", "MONITOR_URL": ""}


def ours(stack: Stack, name: str, threads: int = 8) -> Sqs:
    """Return our client of a queue of that name."""
    settings = load(stack.environment | {"QUEUE_NAME": name, "SQS_THREADS": str(threads)})
    queue = open_queue("SQS", settings.options())
    assert isinstance(queue, Sqs)
    queue.check()
    return queue


def plain_client(stack: Stack) -> Any:
    """Return boto3's client as it comes."""
    return boto3.client(
        "sqs",
        endpoint_url=stack.environment["AWS_ENDPOINT_URL_SQS"],
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def send_one_by_one(client: Any, url: str, sent: list[bytes]) -> None:
    """Publish, a call a message."""
    for body in sent:
        client.send_message(QueueUrl=url, MessageBody=body.decode())


def hand_over_one_by_one(client: Any, url: str, app: Celery, messages: int) -> None:
    """Receive, hand over and delete, a call each."""
    for _ in range(messages):
        message = client.receive_message(QueueUrl=url)["Messages"][0]
        body = orjson.loads(message["Body"])
        app.tasks["push"].delay(body["p"], body["m"])
        client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    yield from without_latency(bench)
    yield from with_latency(bench)


def without_latency(bench: Bench) -> Iterator[Row]:
    """Measure our CPU a message."""
    many, few = bench.sized(10_000), bench.sized(2_000)
    with closing(bench.stack("SQS", SETTINGS, "--latency 0 --no-quotas")) as stack:
        for server in (stack.add_redis("broker"), stack.add_sqs()):
            server.start()
        broker = Redis.from_url(stack.environment["REDIS_CELERY_URL"])
        client, app = plain_client(stack), plain_app(stack.environment["REDIS_CELERY_URL"])
        queue = ours(stack, "phone_numbers")
        url = queue._url(0)
        sent = bodies(few)
        subscriber = stack.add_subscriber(1)

        def publish() -> Sample:
            client.purge_queue(QueueUrl=url)
            return timed(many, lambda: flood(queue, many).run(lambda _: None))

        def plain_publish() -> Sample:
            client.purge_queue(QueueUrl=url)
            return timed(few, lambda: send_one_by_one(client, url, sent))

        def hand_over() -> Sample:
            publish()
            broker.flushall()
            subscriber.start()
            before = broker.llen("celery")
            cpu = cpu_seconds(subscriber)
            until(lambda: broker.llen("celery") == many)
            until(lambda: not sum(queue.depth()))
            used = cpu_seconds(subscriber) - cpu
            subscriber.kill()
            return Sample(many - before, float("nan"), used)

        def plain_hand_over() -> Sample:
            plain_publish()
            broker.flushall()
            return timed(few, lambda: hand_over_one_by_one(client, url, app, few))

        for stage, mine, theirs, calls in (
            ("publish", publish, plain_publish, "`SendMessage`"),
            ("receive + hand-over + delete", hand_over, plain_hand_over, "`ReceiveMessage`, `.delay()`, …"),
        ):
            samples = bench.alternate({f"SQS, {stage}": mine, "one call a message": theirs})
            fast, slow = (median(of, lambda sample: sample.per_cpu_second) for of in samples.values())
            ratio, reached = times(fast, slow, 7)
            yield Row(
                f"{stage}, local SQS, latency off, per CPU-second of ours", f"{calls}: one call a message",
                f"{fast:,.0f}", f"{slow:,.0f}", ratio, "7 ×", reached,
            )  # fmt: skip


def with_latency(bench: Bench) -> Iterator[Row]:
    """Measure how the rates grow with threads where a request takes 10 ms."""
    with closing(bench.stack("SQS", SETTINGS, "--latency 10 --no-quotas")) as stack:
        for server in (stack.add_redis("broker"), stack.add_sqs()):
            server.start()
        broker = Redis.from_url(stack.environment["REDIS_CELERY_URL"])
        server = stack.services["sqs"]
        served: dict[int, float] = {}

        def publish(threads: int) -> Sample:
            queue = ours(stack, f"publish-{threads}", threads)
            messages = bench.sized(2_000 * threads) // 2
            before = cpu_seconds(server)
            sample = timed(messages, lambda: flood(queue, messages).run(lambda _: None, 0.01))
            served[threads] = (cpu_seconds(server) - before) / sample.seconds
            return sample

        def hand_over(threads: int) -> Sample:
            messages = bench.sized(1_000 * threads)
            name = f"receive-{threads}"
            flood(ours(stack, name, 32), messages).run(lambda _: None)
            broker.flushall()
            subscriber = stack.add_subscriber(threads)
            subscriber.environment |= {"QUEUE_NAME": name, "SQS_THREADS": str(threads)}
            subscriber.start()
            before = cpu_seconds(server)
            first, cpu, clock = broker.llen("celery"), cpu_seconds(subscriber), time.perf_counter()
            until(lambda: broker.llen("celery") >= messages)
            seconds, used = time.perf_counter() - clock, cpu_seconds(subscriber) - cpu
            served[threads] = (cpu_seconds(server) - before) / seconds
            subscriber.kill()
            return Sample(messages - first, seconds, used)

        for stage, measure in (("publish", publish), ("receive + hand-over + delete", hand_over)):
            samples = bench.alternate(
                {f"SQS, 10 ms, {n} threads: {stage}": partial(measure, n) for n in THREADS}
            )
            rates = [median(of, lambda sample: sample.rate) for of in samples.values()]
            cores = [
                median(of, lambda sample: sample.cpu_seconds / sample.seconds) for of in samples.values()
            ]
            for threads, rate, core in zip(THREADS[1:], rates[1:], cores[1:], strict=True):
                # A thread more is a thread's rate more, until the process has used up its core.
                scales = rate >= 0.8 * threads * rates[0] or max(core, served[threads]) >= FULL_CORE
                yield Row(
                    f"{stage}, local SQS, 10 ms a request, {threads} threads (CPU: ours {core:.0%}, "
                    f"the server's {served[threads]:.0%} of a core)",
                    "one thread", f"{rate:,.0f}/s", f"{rates[0]:,.0f}/s", f"{rate / rates[0]:.1f} ×",
                    f"{threads} ×, or a full core", scales,
                )  # fmt: skip
