"""Every stage beside the plain way of doing it, in one run: medians, ratios and targets.

    python -m benchmarks [STAGE ...] [--repeats 3] [--scale 1] [--table docs/benchmarks.md]

The sides of a comparison take turns, so that both meet the same machine. Every Redis keeps what it has
(`appendonly yes`).
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Bench, Row
from queuebench.bench.stack import clean_environment
from queuebench.errors import QueueBenchError
from queuebench.plumbing.printable import make_output_safe

STAGES = ("publish", "hand_over", "sqs", "worker")


def main() -> int:
    """Run the stages; return 1 where a target was missed."""
    make_output_safe()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--repeats", type=int, default=3, help="of each side (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of messages (%(default)s)")
    parser.add_argument("--table", type=Path, help="a Markdown file to write the table to")
    options = parser.parse_args()
    # Neither settings nor credentials of whoever runs this have a part in it.
    kept = clean_environment()
    os.environ.clear()
    os.environ.update(kept)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    found: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder:
            bench = Bench(Path(folder), options.repeats, options.scale)
            for stage in options.stages or STAGES:
                print(f"{stage}:", flush=True)
                found += importlib.import_module(f"benchmarks.{stage}").rows(bench)
    except QueueBenchError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped; nothing is left running", file=sys.stderr)
        return 130
    text = table(found, options.repeats, time.monotonic() - began)
    print(f"\n{text}")
    if options.table is not None:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text(text)
    return 1 if any(row.reached is False for row in found) else 0


def table(found: list[Row], repeats: int, seconds: float) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| stage | beside | ours | theirs | ratio | target | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    words = {True: "reached", False: "**missed**", None: "not measured"}
    for row in found:
        cells = (row.stage, row.baseline, row.ours, row.theirs, row.result, row.target, words[row.reached])
        lines.append(f"| {' | '.join(cells)} |")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines += [
        "",
        f"`make benchmarks`: medians of {repeats}, the sides taking turns; {time.strftime('%Y-%m-%d')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load at the end {load}, "
        f"{seconds / 60:.0f} minutes.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
