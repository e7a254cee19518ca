"""What a shipment costs its worker, everything included, with real 1-second POSTs; how full its slots are."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import requests
from redis import Redis

from benchmarks.hand_over import plain_app
from benchmarks.harness import FULL_CORE, Bench, Row, Sample, cpu_seconds, median, share, until
from benchmarks.publish import RUN
from queuebench.bench.stack import Service, Stack
from queuebench.broker.broker import Broker
from queuebench.message import Message
from queuebench.pipeline.hand_over import HandOver

SLOTS = 1000
PER_TASK = 10
SLOT_COUNTS = (250, 500, 1000)
# Of a second: rounds that are not counted.
BEGINNING, ENDING = 5, 2


class WorkerSide:
    """A broker, an endpoint, a monitor, and workers that take turns at them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        for service in (
            stack.add_redis("broker"),
            stack.add_module("endpoint", "--log", str(stack.folder / "endpoint.log")),
            stack.add_redis("redis"),
        ):
            service.start()
        stack.add_module("monitor", "--results", str(stack.results)).start()
        self.redis = Redis.from_url(stack.environment["REDIS_CELERY_URL"])
        self.broker = Broker(stack.environment["REDIS_CELERY_URL"])
        self._tally = stack.environment["PUSH_URL"].replace("/push", "/tally")
        self._sent = 0
        self._batch = 0

    def our_worker(self, slots: int) -> Service:
        """Add our worker."""
        worker = self.stack.add_worker(1)
        worker.environment["WORKER_SLOTS"] = str(slots)
        return worker

    def push(self, messages: int, per_task: int = 1) -> None:
        """Hand over messages to our worker and wait until they have arrived."""
        self._hand_over(self._sent, messages, per_task)
        self._await(messages)

    def ours(self, messages: int, per_task: int, slots: int = SLOTS) -> Sample:
        """Measure our worker."""

        def publish(first: int, count: int) -> None:
            self._hand_over(first, count, per_task)

        return self._measure(self.our_worker(slots), publish, messages, slots)

    def steady(self, slots: int, rounds: int) -> Sample:
        """Measure our worker once it is under way, while there is more to ship than it has slots.

        Without the first rounds, whose shipments all begin at once, and the last, in which slots stay empty.
        """
        self.redis.flushall()
        worker = self.our_worker(slots)
        worker.start()
        try:
            first, last = self._sent + BEGINNING * slots, self._sent + (rounds - ENDING) * slots
            self._hand_over(self._sent, rounds * slots, 1)
            self._sent += rounds * slots
            until(lambda: self.arrived() >= first, 0.05)
            before, cpu, clock = self.arrived(), cpu_seconds(worker), time.perf_counter()
            until(lambda: self.arrived() >= last, 0.05)
            after, spent, seconds = self.arrived(), cpu_seconds(worker) - cpu, time.perf_counter() - clock
            until(lambda: self.arrived() >= self._sent, 0.05)
            return Sample(after - before, seconds, spent)
        finally:
            worker.stop()

    def _hand_over(self, first: int, count: int, per_task: int) -> None:
        # After the stack has said where everything is.
        from queuebench.pipeline.app import push_data, push_several

        hand_over = HandOver(self.broker, push_data, push_several, per_task)
        for number in range(first, first + count, 1000):
            until_number = min(number + 1000, first + count)
            batch = [
                Message(f"{RUN}-{n}", "+5511999990000", "Your order has left our warehouse.", RUN, n, 1.0)
                for n in range(number, until_number)
            ]
            self._batch += 1
            hand_over.hand_over(batch, (), self._batch)

    def stock(self, messages: int) -> Sample:
        """Measure the worker of a good user of Celery and requests."""
        app = plain_app(self.stack.environment["REDIS_CELERY_URL"])
        argv = [sys.executable, "-m", "celery", "-A", "benchmarks.stock_worker", "worker", "-P", "gevent"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]
        name = ["-n", f"stock-{self.stack.ports['broker']}@%h"]
        worker = self.stack._add("stock-worker", [*argv, *quiet, *name], r"ready\.")

        def publish(first: int, count: int) -> None:
            with app.amqp.producer_pool.acquire(block=True) as producer, producer.batch(500):
                for number in range(first, first + count):
                    arguments = ("+5511999990000", "Your order has left our warehouse.")
                    app.tasks["push"].apply_async(arguments, task_id=f"{RUN}-{number}", producer=producer)

        return self._measure(worker, publish, messages, SLOTS)

    def _measure(self, worker: Service, publish, messages: int, slots: int) -> Sample:  # type: ignore[no-untyped-def]
        self.redis.flushall()
        worker.start()
        try:
            # Connections, threads and greenlets are start-up: each slot ships once before the clock starts.
            publish(self._sent, slots)
            self._await(slots)
            cpu = cpu_seconds(worker)
            clock = time.perf_counter()
            publish(self._sent, messages)
            self._await(messages)
            return Sample(messages, time.perf_counter() - clock, cpu_seconds(worker) - cpu)
        finally:
            worker.stop()

    def _await(self, messages: int) -> None:
        """Wait until so many more have arrived."""
        self._sent += messages
        until(lambda: self.arrived() >= self._sent, 0.05)

    def arrived(self) -> int:
        """Return how many the endpoint has answered."""
        return int(requests.get(self._tally, params={"run": RUN}, timeout=30).json()["distinct"])


def rows(bench: Bench) -> Iterator[Row]:
    """Measure."""
    messages = bench.sized(3_000)
    with closing(bench.stack("REDIS", {})) as stack:
        side = WorkerSide(stack)
        samples = bench.alternate(
            {
                "stock Celery, kombu, requests": lambda: side.stock(messages),
                "worker, one task a shipment": lambda: side.ours(3 * messages, 1),
                f"worker, {PER_TASK} shipments a task": lambda: side.ours(3 * messages, PER_TASK),
            }
        )
        stock, one, several = (median(of, lambda sample: sample.cpu_us) for of in samples.values())
        baseline = "stock Celery and kombu, `acks_late`, `requests` with a sized adapter"
        for what, ours, target in (
            ("one task a shipment", one, 0.4),
            (f"{PER_TASK} shipments a task", several, 0.2),
        ):
            yield Row(
                f"worker, real POSTs, CPU per shipment, everything included, {what}", baseline,
                f"{ours:.0f} µs", f"{stock:.0f} µs", share(ours, stock), f"{target:.0%}",
                ours / stock <= target,
            )  # fmt: skip
        rounds = max(BEGINNING + ENDING + 5, int(30 * bench.scale))
        full = bench.alternate(
            {f"worker, {slots:,} slots": partial(side.steady, slots, rounds) for slots in SLOT_COUNTS}
        )
        for slots, (name, runs) in zip(SLOT_COUNTS, full.items(), strict=True):
            rate = median(runs, lambda sample: sample.rate)
            core = median(runs, lambda sample: sample.cpu_seconds / sample.seconds)
            yield Row(
                f"{name} ({core:.0%} of a core)", "slots ÷ 1 s", f"{rate:,.0f}/s", f"{slots:,}/s",
                f"{rate / slots:.1%}", "95 %, or a full core", rate >= 0.95 * slots or core >= FULL_CORE,
            )  # fmt: skip
