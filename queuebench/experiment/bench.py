"""Both queues, one after the other, through real processes on this machine; then the answer.

Of each queue: a flood, a steady stretch at the rate of the question, and a short search for what the queue
carries with its subscribers. Nothing needs to be installed or running: the servers are started here and gone
afterwards. Neither `.env`, nor AWS, nor a Redis that was there already is touched.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from queuebench import settings as settings_module
from queuebench.bench import fleet
from queuebench.bench.stack import Stack
from queuebench.experiment.bed import Bed
from queuebench.figures import planner, requirement
from queuebench.figures.limits import Kind, RateLimit
from queuebench.measuring.client import MonitorClient
from queuebench.plumbing.printable import safe_url
from queuebench.report import limits as shown
from queuebench.report import progress
from queuebench.report.cli import read_run, report

DEFAULT_MESSAGES = "5000"
# The rate of the question: a million in an hour.
STEADY_RATE = planner.DEFAULT_TARGET / planner.DEFAULT_HOURS / 3600.0
STEADY_SECONDS, SEARCH_SECONDS = 15.0, 20.0
SHORTER = {Kind.SHORT: 4.0, Kind.LONG: 10.0, Kind.PROOF: 60.0}
# Where a short search begins, by what came through of the flood.
OF_FLOOD, LOWEST_FIRST, HIGHEST_FIRST = 0.8, 100.0, 20_000.0


@dataclass
class _Found:
    """What was run and found, of all queues."""

    folders: list[Path] = field(default_factory=list)
    limits: list[RateLimit] = field(default_factory=list)


def main(argv: list[str]) -> int:
    """Run the benchmark; return 0 where every run is valid, lost nothing and is as required."""
    parser = argparse.ArgumentParser(prog="python -m queuebench bench", description=__doc__)
    parser.add_argument("--messages", help=f"of the flood, or a list of runs (default: {DEFAULT_MESSAGES})")
    fleet.add_options(parser)
    requirement.add_option(parser, "what every run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'")
    parser.add_argument(
        "--flood", action="store_true", help="the flood alone, without steady stretch and search"
    )
    options = parser.parse_args(argv)
    requirements = [requirement.parse(text) for text in options.require]
    queues = fleet.queues_of(options.queue)
    settings = {"WORKER_SLOTS": fleet.DEFAULT_SLOTS} | fleet.settings_of(options.set)
    if options.messages:
        settings_module.bursts(options.messages)
    with fleet.stopping() as stopped:
        found = _Found()
        try:
            for queue in queues:
                _run(queue, options, settings, found, stopped)
        except KeyboardInterrupt:
            print("bench: stopped; nothing is left running", file=sys.stderr)
            return 130
        if not found.folders:
            print("bench: no run came to its end", file=sys.stderr)
            return 1
        print()
        return report(found.folders, requirements=requirements, limits=found.limits)


def messages_of(asked: str | None, settings: settings_module.Settings) -> str:
    """Return how many messages a publisher is told to send: '' for a load that ends by itself."""
    return asked or (DEFAULT_MESSAGES if settings.messages else "")


def _run(
    queue: str,
    options: argparse.Namespace,
    settings: Mapping[str, str],
    found: _Found,
    stopped: threading.Event,
) -> None:
    """Run one queue in a stack of its own."""
    loaded = settings_module.load(settings)
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
            # What is paced, or ends by itself, is what was asked for: then that alone is run.
            is_paced = bool(loaded.rate or loaded.profile or loaded.publisher_delay or loaded.duration)
            publisher = stack.publish(messages_of(options.messages, loaded))
            try:
                fleet.wait(publisher, stopped)
                if publisher.returncode == 0:
                    _follow(stack, before, stopped)
            finally:
                fleet.end(publisher)
            new = sorted(set(options.results.glob("*/summary.json")) - before)
            found.folders += [path.parent for path in new]
            if stopped.is_set():
                raise KeyboardInterrupt
            if options.flood or is_paced or not new:
                return
            bed = Bed(stack, stopped)
            print(f"{queue}: {STEADY_RATE:,.0f}/s for {STEADY_SECONDS:.0f} s", flush=True)
            _, _, its_folder = bed.hold(STEADY_RATE, STEADY_SECONDS)
            found.folders.append(its_folder)
            print(f"{queue}: a short search for what the queue carries with its subscribers", flush=True)
            stack.drain()
            found.limits.append(_short_search(stack, stopped, new[-1].parent))


def _follow(stack: Stack, before: set[Path], stopped: threading.Event) -> None:
    """Show the run that the publisher has left to its end."""
    known = {path.parent for path in before}
    records = [path.parent for path in stack.results.glob("*/run.json") if path.parent not in known]
    with progress.RunView(stack.label) as view:
        for state in MonitorClient(stack.environment["MONITOR_URL"]).follow(max(records).name):
            if stopped.is_set():
                raise KeyboardInterrupt
            view.show(state)


def _short_search(stack: Stack, stopped: threading.Event, flood: Path) -> RateLimit:
    carried = read_run(flood).rates.receive
    first = max(LOWEST_FIRST, min(HIGHEST_FIRST, OF_FLOOD * carried))
    bed = Bed(stack, stopped, say=lambda tried: print(f"  {shown.step(tried)}", flush=True))
    return bed.search(first, proof=False, within_seconds=SEARCH_SECONDS, seconds=SHORTER)
