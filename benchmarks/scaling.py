"""Whether anything grows with the number of messages: CPU a message and memory of each role.

    python -m benchmarks.scaling [--up-to 1000000] [--queue REDIS] [--workers 2] [--set NAME=VALUE ...]

Runs of 10,000, 100,000 and 1,000,000 messages, each a real 1-second POST, each in a stack of its own. What a
message more costs is taken between two sizes, so that start-up has no part in it. The smaller sizes, where a
moment of a busy machine is a large part, are run five times for their medians.

Celery's backlog is kept small, so that a run of every size does the same: the subscriber of a run larger than
the backlog waits for room most of the time, and looks for it ten times a second, that of a smaller one never.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks.harness import cpu_seconds, until
from queuebench.errors import QueueBenchError
from queuebench.stack import Service, Stack

SIZES = (10_000, 100_000, 1_000_000)
REPEATED_UP_TO = 100_000
REPEATS = 5
COST_TARGET, MEMORY_TARGET = 0.15, 1.2


def peak_mib(service: Service) -> float:
    """Return the most memory that a process has had resident so far: proc_pid_status(5)."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(
    folder: Path, queue: str, messages: int, workers: int, settings: dict[str, str]
) -> dict[str, tuple[float, float]]:
    """Return CPU seconds since start-up, and peak MiB, by role.

    Raises:
        QueueBenchError: messages were lost.
    """
    with Stack(folder, queue, workers=workers, settings=settings, sqs_options=["--latency", "0"]) as stack:
        before = {name: cpu_seconds(service) for name, service in stack.services.items()}
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
    costs = {role: (seconds, memory[role]) for role, seconds in cpu.items()}
    return {"publisher": (publisher["cpu_seconds"], publisher["max_rss_mib"]), **costs}


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
    found = []
    try:
        with tempfile.TemporaryDirectory(prefix="scaling-", ignore_cleanup_errors=True) as folder:
            for size in sizes:
                results = []
                for turn in range(REPEATS if size <= REPEATED_UP_TO else 1):
                    print(f"{size:,} messages", flush=True)
                    place = Path(folder) / f"{size}-{turn}"
                    results.append(run(place, options.queue, size, options.workers, settings))
                    print("   ", ", ".join(f"{role} {cpu:.3f} s" for role, (cpu, _) in results[-1].items()))
                found.append(
                    {
                        role: (median(r[role][0] for r in results), median(r[role][1] for r in results))
                        for role in results[0]
                    }
                )
    except QueueBenchError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    return show(sizes, found)


def show(sizes: list[int], found: list[dict[str, tuple[float, float]]]) -> int:
    """Print the table; return 1 where a target is missed."""
    steps = list(pairwise(sizes))
    columns = [f"µs to {last:,}" for _, last in steps] + ["apart"]
    columns += [f"MiB at {size:,}" for size in sizes] + ["last two"]
    print("\n| role | " + " | ".join(columns) + " |")
    print("|---|" + "--:|" * len(columns))
    missed = False
    total = [0.0] * len(steps)
    for role in found[0]:
        costs = [
            1e6 * (found[step + 1][role][0] - found[step][role][0]) / (last - first)
            for step, (first, last) in enumerate(steps)
        ]
        total = [before + cost for before, cost in zip(total, costs, strict=True)]
        memory = [result[role][1] for result in found]
        growth = memory[-1] / memory[-2] if len(memory) > 1 else 1.0
        # Servers hold the backlog: that they grow with it is their work.
        missed |= growth > MEMORY_TARGET and role in ("publisher", "subscriber", "worker", "monitor")
        missed |= apart(costs) > COST_TARGET
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
