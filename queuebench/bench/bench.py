"""Both queues, one after the other, through real processes on this machine; then side by side.

Nothing needs to be installed or running: the servers are started here and gone afterwards. Neither
`.env`, nor AWS, nor a Redis that was there already is touched.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from queuebench import settings as settings_module
from queuebench.bench import fleet
from queuebench.bench.stack import Stack
from queuebench.figures.requirement import parse as requirement
from queuebench.plumbing.printable import safe_url
from queuebench.report.cli import main as report

DEFAULT_MESSAGES = "10000"


def main(argv: list[str]) -> int:
    """Run the benchmark; return 0 where every run is valid, lost nothing and is as required."""
    parser = argparse.ArgumentParser(prog="python -m queuebench bench", description=__doc__)
    parser.add_argument(
        "--messages",
        help=f"how many, or a list of runs: 100,1000 (default: {DEFAULT_MESSAGES}, none with DURATION)",
    )
    fleet.add_options(parser)
    fleet.add_require(parser, "what every run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'")
    options = parser.parse_args(argv)
    for text in options.require:
        requirement(text)
    queues = fleet.queues_of(options.queue)
    settings = {"WORKER_SLOTS": fleet.DEFAULT_SLOTS} | fleet.settings_of(options.set)
    if options.messages is None and settings_module.load(settings).messages:
        options.messages = DEFAULT_MESSAGES
    if options.messages is not None:
        settings_module.bursts(options.messages)
    with fleet.stopping() as stopped:
        try:
            folders = [folder for queue in queues for folder in _runs(queue, options, settings, stopped)]
        except KeyboardInterrupt:
            print("bench: stopped; nothing is left running", file=sys.stderr)
            return 130
        if not folders:
            print("bench: no run came to its end", file=sys.stderr)
            return 1
        print()
        return report([*map(str, folders), *(["--require", *options.require] if options.require else [])])


def _runs(
    queue: str, options: argparse.Namespace, settings: Mapping[str, str], stopped: threading.Event
) -> Sequence[Path]:
    """Run one queue in a stack of its own, and return the folders of its runs."""
    with fleet.scratch(queue) as folder:
        print(f"{queue}: starting servers, endpoint, monitor, workers and subscribers", flush=True)
        stack = Stack(
            Path(folder),
            queue,
            subscribers=options.subscribers,
            workers=options.workers,
            settings=settings,
            results=options.results,
            sqs_options=options.sqs.split(),
            stopped=stopped,
        )
        with stack:
            before = set(options.results.glob("*/summary.json"))
            print(f"{queue}: live at {safe_url(stack.environment['MONITOR_URL'])}", flush=True)
            publisher = stack.publish(options.messages or "", "--wait")
            try:
                fleet.wait(publisher, stopped)
            finally:
                fleet.end(publisher)
    if stopped.is_set():
        raise KeyboardInterrupt
    new = sorted(set(options.results.glob("*/summary.json")) - before)
    return [path.parent for path in new]
