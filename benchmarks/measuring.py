"""What measuring costs: the pipeline as it is beside the same with its telemetry cut out.

    python -m benchmarks.measuring [--rounds 9]

CPU per message of each role, both ways in turn; the cost is the median of the rounds' ratios, because two
runs one after the other meet nearly the same machine. A stage whose core is full is slower by the same
share. At most 5 % is allowed. The servers are started here, on 127.0.0.1, and gone afterwards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.harness import cpu_seconds
from queuebench.stack import ROOT, Service, Stack

ALLOWED = 0.05
# The same programs, after what records and reports has become nothing.
CUT_OUT = """
import runpy, sys
from queuebench.endpoint import Endpoint
from queuebench.telemetry import Telemetry
for name in ("record", "accepted", "start", "close"):
    setattr(Telemetry, name, lambda *_, **__: None)
Endpoint._note = lambda endpoint: endpoint._arrivals.clear()
kind, name, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = name
sys.path.insert(0, ".")
(runpy.run_path if kind == "path" else runpy.run_module)(name, run_name="__main__")
"""
SETTINGS = {"CELERY_BACKLOG_LIMIT": "10000000", "PUSH_SECONDS": "0.1", "WORKER_SLOTS": "200"}


def main() -> int:
    """Measure, print, and return 0 where no stage loses more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--bulk", type=int, default=1_000_000, help="messages to publish; a fifth is handed over"
    )
    parser.add_argument("--posts", type=int, default=6_000, help="messages to POST")
    options = parser.parse_args()
    found: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
    for turn in range(options.rounds):
        for measured in (True, False) if turn % 2 else (False, True):
            for role, seconds in once(measured, options.bulk, options.posts).items():
                found[measured][role].append(seconds)
            print(".", end="", flush=True)
    print(f"\n\nCPU per message, medians of {options.rounds}\n")
    print(f"{'':12}{'measured':>12}{'not':>12}{'cost':>9}{'half of the rounds':>22}")
    worst = 0.0
    for role, spent in found[True].items():
        ratios = [a / b - 1.0 for a, b in zip(spent, found[False][role], strict=True)]
        share = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        worst = max(worst, share)
        with_it, without = statistics.median(spent), statistics.median(found[False][role])
        print(
            f"{role:12}{with_it * 1e6:>9,.2f} µs{without * 1e6:>9,.2f} µs{share:>+9.1%}"
            f"{f'{low:+.1%} to {high:+.1%}':>22}"
        )
    print(f"\nallowed: {ALLOWED:+.0%}; worst: {worst:+.1%}")
    return 0 if worst <= ALLOWED else 1


def once(measured: bool, bulk: int, posts: int) -> dict[str, float]:
    """Return the CPU seconds per message of each role."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), "REDIS", subscribers=0, workers=0, settings=SETTINGS)
        if not measured:
            stack.environment["MONITOR_URL"] = ""
        try:
            stack.add_redis("broker").start()
            stack.add_redis("redis").start()
            if measured:
                stack.add_module("monitor", "--results", str(stack.results)).start()
            cpu = publish(stack, measured, bulk)
            empty(stack)
            cpu |= hand_over(stack, measured, bulk // 5)
            empty(stack)
            return cpu | post(stack, measured, posts)
        finally:
            stack.close()


def publish(stack: Stack, measured: bool, messages: int) -> dict[str, float]:
    """Publish, with nobody who receives."""
    # A publisher's start is worth a hundred thousand messages.
    start = published(stack, measured, 1)
    return {"publisher": (published(stack, measured, messages) - start) / messages}


def hand_over(stack: Stack, measured: bool, messages: int) -> dict[str, float]:
    """Receive and hand over, without a worker."""
    published(stack, measured, messages)
    subscriber = cut(stack.add_subscriber(1), measured, "path", "subscriber.py")
    broker = Redis.from_url(stack.environment["REDIS_CELERY_URL"])
    subscriber.launch()
    began: tuple[float, int] | None = None
    while True:
        waiting: Any = broker.llen("celery")
        if waiting >= messages:
            break
        if waiting and began is None:
            began = (cpu_seconds(subscriber), waiting)
        time.sleep(0.005)
    assert began is not None
    spent = cpu_seconds(subscriber) - began[0]
    subscriber.stop()
    return {"subscriber": spent / (messages - began[1])}


def empty(stack: Stack) -> None:
    """Throw away what waits in both servers."""
    for name in ("REDIS_PUBSUB_URL", "REDIS_CELERY_URL"):
        Redis.from_url(stack.environment[name]).flushall()


def post(stack: Stack, measured: bool, messages: int) -> dict[str, float]:
    """Ship messages to the endpoint."""
    endpoint = stack.add_module("endpoint", "--log", str(stack.folder / "endpoint.log"))
    worker = stack.add_worker(1)
    services = [
        cut(endpoint, measured, "module", "queuebench"),
        cut(worker, measured, "module", "celery"),
        stack.services["subscriber-1"],
    ]
    for service in services:
        service.start()
    before = {service.name: cpu_seconds(service) for service in services}
    published(stack, measured, messages)
    log = stack.folder / "endpoint.log"
    wait(lambda: log.read_bytes().count(b"\n") >= messages)
    spent = {service.name: cpu_seconds(service) - before[service.name] for service in services}
    return {"worker": spent["worker-1"] / messages, "endpoint": spent["endpoint"] / messages}


def wait(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition.

    Raises:
        SystemExit: it did not come true.
    """
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise SystemExit("measuring: the messages did not arrive in time")
        time.sleep(0.1)


def cut(service: Service, measured: bool, kind: str, name: str) -> Service:
    """Let a service run without its telemetry, unless it is to be measured."""
    if not measured:
        arguments = service.argv[3:] if kind == "module" else service.argv[2:]
        service.argv = [sys.executable, "-c", CUT_OUT, kind, name, *arguments]
    return service


def published(stack: Stack, measured: bool, messages: int) -> float:
    """Publish and return the CPU seconds of the whole process."""
    argv = [sys.executable, "publisher.py"]
    if not measured:
        argv = [sys.executable, "-c", CUT_OUT, "path", "publisher.py"]
    before = os.times()
    subprocess.run(
        [*argv, str(messages)], cwd=ROOT, env=stack.environment, check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
