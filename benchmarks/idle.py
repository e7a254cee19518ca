"""What a stack costs that has nothing to do: CPU of each role over a minute.

python -m benchmarks.idle [--seconds 60] [--subscribers 2] [--workers 2]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import cpu_seconds, rss_mib, until
from queuebench.bench.stack import Stack
from queuebench.errors import QueueBenchError

TARGET = 0.02  # of a core: subscribers, workers and monitor together
SETTLE_SECONDS = 5.0
COUNTED = ("subscriber", "worker", "monitor")


def main() -> int:
    """Measure both queues; return 1 where they are above the target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--subscribers", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--queue", action="append", choices=["REDIS", "SQS"], help="only this one")
    options = parser.parse_args()
    reached = True
    try:
        with tempfile.TemporaryDirectory(prefix="idle-", ignore_cleanup_errors=True) as folder:
            for queue in options.queue or ("REDIS", "SQS"):
                reached &= idle(Path(folder) / queue, queue, options)
    except QueueBenchError as error:
        print(f"idle: {error}", file=sys.stderr)
        return 2
    return 0 if reached else 1


def idle(folder: Path, queue: str, options: argparse.Namespace) -> bool:
    """Measure one stack; return whether it is within the target."""
    with Stack(folder, queue, subscribers=options.subscribers, workers=options.workers) as stack:
        # A run before, as services have behind them that idle in earnest.
        stack.publish("1000").wait()
        until(lambda: any(stack.results.glob("*/summary.json")), 0.2)
        time.sleep(SETTLE_SECONDS)
        before = {name: cpu_seconds(service) for name, service in stack.services.items()}
        began = time.perf_counter()
        time.sleep(options.seconds)
        seconds = time.perf_counter() - began
        together = 0.0
        print(f"{queue}, idle for {seconds:.0f} s:")
        for name, service in stack.services.items():
            share = (cpu_seconds(service) - before[name]) / seconds
            counted = name.startswith(COUNTED)
            together += share if counted else 0.0
            print(f"  {name:14} {share:6.2%} of a core, {rss_mib(service):4.0f} MiB")
    print(f"  subscribers, workers and monitor together {together:.2%}, target {TARGET:.0%}", flush=True)
    return together < TARGET


if __name__ == "__main__":
    sys.exit(main())
