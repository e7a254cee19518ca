"""What measuring costs: each stage as it is beside the same with its telemetry cut out.

    python -m benchmarks.measuring [--rounds 9]

CPU per message of each role, both ways in turn; the cost is the median of the rounds' ratios, because two
runs one after the other meet nearly the same machine. A stage whose core is full is slower by the same
share. At most 5 % is allowed. The servers are started here, on 127.0.0.1, and gone afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.harness import cpu_seconds, until
from benchmarks.worker import SLOTS, WorkerSide
from queuebench.bench.stack import Service, Stack

ALLOWED = 0.05
# The same programs, after what records and reports has become nothing.
CUT_OUT = """
import runpy, sys
from queuebench.endpoint.endpoint import Endpoint
from queuebench.measuring.telemetry import Telemetry
for name in ("record", "accepted", "start", "close"):
    setattr(Telemetry, name, lambda *_, **__: None)
Endpoint._note = lambda endpoint: endpoint._arrivals.clear()
name, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = name
runpy.run_module(name, run_name="__main__")
"""
SETTINGS = {"CELERY_BACKLOG_LIMIT": "10000000"}
# Who POST to an endpoint at once.
CALLERS = 500


def main() -> int:
    """Measure, print, and return 0 where no stage loses more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--bulk", type=int, default=1_000_000, help="messages to publish; a fifth is handed over"
    )
    parser.add_argument(
        "--posts", type=int, default=20_000, help="messages to POST; twice as many are answered"
    )
    options = parser.parse_args()
    found: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), "REDIS", settings=SETTINGS)
        with closing(stack):
            stack.add_redis("broker").start()
            stack.add_redis("redis").start()
            stack.add_module("monitor", "--results", str(stack.results)).start()
            stages: dict[str, Callable[[bool], float]] = {
                "publisher": lambda measured: publish(stack, measured, options.bulk),
                "subscriber": lambda measured: hand_over(stack, measured, options.bulk // 5),
            }
            for turn in range(options.rounds):
                for role, cost in stages.items():
                    for measured in in_turn(turn):
                        found[measured][role].append(cost(measured))
                for role, both in (
                    ("worker", push(stack, options.posts)),
                    ("endpoint", answer(stack, 2 * options.posts)),
                ):
                    for measured, seconds in both.items():
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


def in_turn(turn: int) -> tuple[bool, bool]:
    """Return which side comes first: neither always does."""
    return (True, False) if turn % 2 else (False, True)


def publish(stack: Stack, measured: bool, messages: int) -> float:
    """Return the CPU seconds a message of a publisher, with nobody who receives."""
    # A publisher's start is worth a hundred thousand messages.
    start = published(stack, measured, 1)
    return (published(stack, measured, messages) - start) / messages


def hand_over(stack: Stack, measured: bool, messages: int) -> float:
    """Return the CPU seconds a message of a subscriber, without a worker."""
    broker = Redis.from_url(stack.environment["REDIS_CELERY_URL"])
    broker.flushall()
    Redis.from_url(stack.environment["REDIS_PUBSUB_URL"]).flushall()
    published(stack, measured, messages)
    subscriber = cut(stack.add_subscriber(1), measured)
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
    return spent / (messages - began[1])


def push(stack: Stack, messages: int) -> dict[bool, float]:
    """Return the CPU seconds a shipment of two workers, one measured, one not, that ship in turn."""
    sides: dict[bool, WorkerSide] = {}
    workers: dict[bool, Service] = {}
    with ExitStack() as opened:
        for measured in (True, False):
            own = Stack(Path(tempfile.mkdtemp(dir=stack.folder)), "REDIS", settings={"PUSH_SECONDS": "0.1"})
            opened.callback(own.close)
            sides[measured] = WorkerSide(own)
            workers[measured] = cut(sides[measured].our_worker(SLOTS), measured)
            workers[measured].start()
            sides[measured].push(SLOTS)

        def work(measured: bool) -> None:
            sides[measured].push(SLOTS)

        return spent(workers, work, messages // SLOTS, SLOTS)


def answer(stack: Stack, messages: int) -> dict[bool, float]:
    """Return the CPU seconds a POST of two endpoints, one measured, one not, that are kept busy in turn."""
    numbers = itertools.count()
    callers: dict[bool, list[socket.socket]] = {}
    endpoints: dict[bool, Service] = {}
    with ExitStack() as opened:
        for measured in (True, False):
            settings = {"PUSH_SECONDS": "0", "MONITOR_URL": stack.environment["MONITOR_URL"]}
            own = Stack(Path(tempfile.mkdtemp(dir=stack.folder)), "REDIS", settings=settings)
            opened.callback(own.close)
            endpoints[measured] = cut(own.add_module("endpoint", "--log", str(own.folder / "log")), measured)
            endpoints[measured].start()
            address = ("127.0.0.1", own.ports["endpoint"])
            callers[measured] = [
                opened.enter_context(socket.create_connection(address)) for _ in range(CALLERS)
            ]
            wave(callers[measured], numbers)

        def work(measured: bool) -> None:
            wave(callers[measured], numbers)

        return spent(endpoints, work, messages // CALLERS, CALLERS)


def spent(
    services: dict[bool, Service], work: Callable[[bool], None], turns: int, messages: int
) -> dict[bool, float]:
    """Return the CPU seconds a message of two services that each work in every turn."""
    before = {measured: cpu_seconds(service) for measured, service in services.items()}
    for turn in range(turns):
        for measured in in_turn(turn):
            work(measured)
    return {
        measured: (cpu_seconds(service) - before[measured]) / (turns * messages)
        for measured, service in services.items()
    }


def wave(callers: list[socket.socket], numbers: Iterator[int]) -> None:
    """Let every caller POST once, and wait for all the answers."""
    body = b'{"p":"+5511999990000","m":"Your order has left our warehouse."}'
    for caller in callers:
        caller.sendall(
            b"POST /push HTTP/1.1\r\nHost: endpoint\r\nContent-Type: application/json\r\n"
            b"Idempotency-Key: measuring-%d\r\nIntended-At: %.6f\r\nContent-Length: %d\r\n\r\n%b"
            % (next(numbers), time.time(), len(body), body)
        )
    for caller in callers:
        answered = b""
        while not answered.endswith(b"}"):
            answered += caller.recv(4096)
        assert answered.startswith(b"HTTP/1.1 200")


def cut(service: Service, measured: bool) -> Service:
    """Let a service run without its telemetry, unless it is to be measured."""
    if not measured:
        service.environment["MONITOR_URL"] = ""
        _python, _m, *module = service.argv
        service.argv = [sys.executable, "-c", CUT_OUT, *module]
    return service


def published(stack: Stack, measured: bool, messages: int) -> float:
    """Publish and return the CPU seconds of the whole process."""
    publisher = cut(
        stack._add("publisher", [sys.executable, "-m", "queuebench", "publisher", str(messages)], ""),
        measured,
    )
    before = os.times()
    publisher.launch()
    until(lambda: publisher.exit_code() is not None)
    after = os.times()
    assert publisher.exit_code() == 0, publisher.output()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
