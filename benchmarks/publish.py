"""Publish to Redis from one process: ours, one call a message as the original did it, and a C program."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing

from redis import Redis

from benchmarks.harness import Bench, Row, Sample, median, share, timed, times
from queuebench.load import bodies as made
from queuebench.load import pacing
from queuebench.load.bodies import Texts
from queuebench.measuring.telemetry import Telemetry
from queuebench.pipeline.flood import Flood
from queuebench.plumbing.outage import Outage
from queuebench.queues import Queue
from queuebench.queues.redis_list import RedisList

RUN = "20261123-120000-redis-a1b2"


def flood(queue: Queue, messages: int) -> Flood:
    """Return what a publisher runs, without a monitor."""
    outage = Outage("publisher", "the queue")
    return Flood(queue, RUN, 0, messages, pacing.Flood(), Texts(), Telemetry("publisher"), outage)


def bodies(messages: int) -> list[bytes]:
    """Return what a publisher sends."""
    return made.timed(RUN, Texts().take(messages).heads, 0, [1_795_435_200.0] * messages)


def one_by_one(client: Redis, key: str, sent: list[bytes]) -> None:
    """Publish as the original did."""
    for body in sent:
        client.rpush(key, body)
        client.llen(key)


def redis_benchmark(port: int, key: str, body: bytes, messages: int) -> Sample:
    """Publish with the program that comes with Redis."""
    command = ["redis-benchmark", "-p", str(port), "-n", str(messages), "-P", "100", "-c", "4", "--csv"]
    done = subprocess.run([*command, "RPUSH", key, body], capture_output=True, text=True, check=True)
    head, line = done.stdout.strip().splitlines()
    # The first column is the command, with the quotation marks of its payload as they are.
    columns = line.strip('"').rsplit('","', head.count(","))
    rate = float(columns[1])
    return Sample(messages, messages / rate, float("nan"))


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    with closing(bench.stack("REDIS", {})) as stack:
        stack.add_redis("redis").start()
        url = stack.environment["REDIS_PUBSUB_URL"]
        client = Redis.from_url(url)
        many, few = bench.sized(1_000_000), bench.sized(10_000)

        def ours() -> Sample:
            client.flushall()
            queue = RedisList(redis_pubsub_url=url, channel_name="phone_numbers")
            sample = timed(many, lambda: flood(queue, many).run(lambda _: None))
            assert client.llen("phone_numbers") == many
            queue.close()
            return sample

        def original() -> Sample:
            client.flushall()
            return timed(few, lambda: one_by_one(client, "phone_numbers", sent))

        def in_c() -> Sample:
            client.flushall()
            return redis_benchmark(stack.ports["redis"], "phone_numbers", sent[-1], many)

        sent = bodies(few)
        sides = {"publisher": ours, "RPUSH, LLEN one by one": original}
        installed = shutil.which("redis-benchmark") is not None
        if installed:
            sides["redis-benchmark -P 100 -c 4"] = in_c
        samples = bench.alternate(sides)
        rate = {name: median(of, lambda sample: sample.rate) for name, of in samples.items()}
        mine, plain = rate["publisher"], rate["RPUSH, LLEN one by one"]
        stage = "publish, Redis, one process"
        ratio, reached = times(mine, plain, 50)
        yield Row(
            stage, "one `RPUSH`, one `LLEN`, one by one", f"{mine:,.0f}/s", f"{plain:,.0f}/s",
            ratio, "50 ×", reached,
        )  # fmt: skip
        what = "`redis-benchmark -P 100 -c 4` of the same payload"
        if installed:
            c = rate["redis-benchmark -P 100 -c 4"]
            yield Row(
                stage, what, f"{mine:,.0f}/s", f"{c:,.0f}/s", share(mine, c), "25 %", mine / c >= 0.25
            )  # fmt: skip
        else:
            yield Row(stage, what, f"{mine:,.0f}/s", "not installed", "–", "25 %", None)
