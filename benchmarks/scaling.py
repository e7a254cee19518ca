"""Whether anything grows with the number of messages: CPU a message and memory of each role.

    python -m benchmarks.scaling [--up-to 1000000] [--queue REDIS] [--workers 2] [--set NAME=VALUE ...]

Runs of 10,000, 100,000 and 1,000,000 messages, each a real 1-second POST, each in a stack of its own. What a
message more costs is taken between two sizes, so that start-up has no part in it. The smaller sizes, where a
moment of a busy machine is a large part, are run five times for their medians.

Celery's backlog is kept small, so that a run of every size does the same: the subscriber of a run larger than
the backlog waits for room most of the time, and looks for it ten times a second, that of a smaller one never.

A second of CPU does not buy the same in every minute of a shared machine. Once a second of each run, a piece
of work that never changes is timed beside it, and each run's costs are told as in minutes of the median
speed. How dear each run's minutes were is printed with it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import orjson

from benchmarks.harness import cpu_seconds, until
from queuebench.bench.stack import Service, Stack
from queuebench.errors import QueueBenchError

SIZES = (10_000, 100_000, 1_000_000)
REPEATED_UP_TO = 100_000
REPEATS = 5
COST_TARGET, MEMORY_TARGET = 0.15, 1.2
# The servers are shown and are in the sum. They are not judged alone: they hold the backlog, which grows.
ROLES = ("publisher", "subscriber", "worker", "endpoint", "monitor")
# As much as makes it some milliseconds: long enough to be exact, short enough to take nothing from the run.
YARDSTICK = [{"i": number, "m": "a notification like any other", "t": time.time()} for number in range(20)]


class Yardstick(threading.Thread):
    """Times the same work once a second, until it is left."""

    def __init__(self) -> None:
        super().__init__(name="yardstick", daemon=True)
        self._left = threading.Event()
        self._found: list[float] = []

    def run(self) -> None:
        """Work, until left."""
        while not self._left.wait(1.0):
            began = time.thread_time()
            for _ in range(1000):
                for message in orjson.loads(orjson.dumps(YARDSTICK)):
                    message["m"] = f"{message['m']} {message['i']}".encode()
            self._found.append(time.thread_time() - began)

    def __enter__(self) -> Yardstick:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self.join()

    @property
    def cpu_seconds(self) -> float:
        """What the work has cost on average: not a median, because a run's costs are a sum as well."""
        return fmean(self._found)


def peak_mib(service: Service) -> float:
    """Return the most memory that a process has had resident so far: proc_pid_status(5)."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@dataclass
class Result:
    """What a run took: CPU seconds since start-up and peak MiB by role, and how dear its minutes were."""

    cpu: dict[str, float]
    memory: dict[str, float]
    yardstick: float


def run(folder: Path, queue: str, messages: int, workers: int, settings: dict[str, str]) -> Result:
    """Ship messages and return what it took.

    Raises:
        QueueBenchError: messages were lost.
    """
    with Stack(folder, queue, workers=workers, settings=settings, sqs_options=["--latency", "0"]) as stack:
        before = {name: cpu_seconds(service) for name, service in stack.services.items()}
        with Yardstick() as yardstick:
            stack.publish(str(messages)).wait()
            until(lambda: any(folder.glob("results/*/summary.json")), 0.2, patience_seconds=7200)
        cpu: dict[str, float] = defaultdict(float)
        memory: dict[str, float] = defaultdict(float)
        for name, service in stack.services.items():
            role = name.partition("-")[0]
            cpu[role] += cpu_seconds(service) - before[name]
            memory[role] = max(memory[role], peak_mib(service))
    summary: dict[str, Any] = orjson.loads(next(folder.glob("results/*/summary.json")).read_bytes())
    if summary["counts"]["delivered"] != messages:
        raise QueueBenchError(f"{summary['counts']['delivered']:,} of {messages:,} messages were delivered")
    publisher = summary["resources"]["publisher"]
    cpu["publisher"], memory["publisher"] = publisher["cpu_seconds"], publisher["max_rss_mib"]
    return Result(cpu, memory, yardstick.cpu_seconds)


def main() -> int:
    """Run all sizes; return 1 where something grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--up-to", type=int, default=SIZES[-1], help="the largest run (%(default)s)")
    parser.add_argument("--queue", default="REDIS", choices=["REDIS", "SQS"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    settings = {"WORKER_SLOTS": "1000", "SHIPMENTS_PER_TASK": "10", "CELERY_BACKLOG_LIMIT": "500"}
    settings |= dict(pair.split("=", 1) for pair in options.set)
    # The last run may be smaller than the next power of ten.
    sizes = [size for size in SIZES if size < options.up_to] + [options.up_to]
    found: list[list[Result]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="scaling-", ignore_cleanup_errors=True) as folder:
            for size in sizes:
                found.append([])
                for turn in range(REPEATS if size <= REPEATED_UP_TO else 1):
                    print(f"{size:,} messages", flush=True)
                    place = Path(folder) / f"{size}-{turn}"
                    result = run(place, options.queue, size, options.workers, settings)
                    found[-1].append(result)
                    took = ", ".join(f"{role} {cpu:.3f} s" for role, cpu in result.cpu.items())
                    print(f"    yardstick {1000 * result.yardstick:.2f} ms, {took}", flush=True)
    except QueueBenchError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    return show(sizes, found)


def show(sizes: list[int], found: list[list[Result]]) -> int:
    """Print the table; return 1 where a target is missed."""
    steps = list(pairwise(sizes))
    columns = [f"µs to {last:,}" for _, last in steps] + ["apart"]
    columns += [f"MiB at {size:,}" for size in sizes] + ["last two"]
    print("\n| role | " + " | ".join(columns) + " |")
    print("|---|" + "--:|" * len(columns))
    missed = False
    total = [0.0] * len(steps)
    usual = median(result.yardstick for results in found for result in results)
    for role in sorted(found[0][0].cpu):
        cpu = [median(r.cpu[role] * usual / r.yardstick for r in results) for results in found]
        memory = [median(r.memory[role] for r in results) for results in found]
        costs = [
            1e6 * (cpu[step + 1] - cpu[step]) / (last - first) for step, (first, last) in enumerate(steps)
        ]
        total = [before + cost for before, cost in zip(total, costs, strict=True)]
        growth = memory[-1] / memory[-2] if len(memory) > 1 else 1.0
        if role in ROLES:
            missed |= apart(costs) > COST_TARGET or growth > MEMORY_TARGET
        print(row(role, costs, memory, growth))
    print(f"| all | {' | '.join(f'{cost:,.1f}' for cost in total)} | {apart(total):.0%} |")
    missed |= apart(total) > COST_TARGET
    return 1 if missed else 0


def row(role: str, costs: list[float], memory: list[float], growth: float) -> str:
    """Return one role's line."""
    cells = [f"{cost:,.1f}" for cost in costs] + [f"{apart(costs):.0%}"]
    cells += [f"{mib:,.0f}" for mib in memory] + [f"{growth:.2f} ×"]
    return f"| {role} | {' | '.join(cells)} |"


def apart(costs: list[float]) -> float:
    """Return by which share the highest cost is above the lowest."""
    return max(costs) / min(costs) - 1 if len(costs) > 1 and min(costs) > 0 else 0.0


if __name__ == "__main__":
    sys.exit(main())
