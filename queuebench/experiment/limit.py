"""`queuebench limit`: the highest rate that each queue holds with a given fleet, found and proven.

Two limits a queue: of the whole pipeline, and of the queue with its subscribers alone, where a drain stands
in the place of the workers. Servers and processes are started here, as `bench` does, and gone afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from queuebench import settings as settings_module
from queuebench.bench import fleet
from queuebench.bench.stack import Stack
from queuebench.errors import QueueBenchError, SettingsError
from queuebench.experiment.bed import REQUIRED, Bed
from queuebench.figures import requirement
from queuebench.figures.limits import RateLimit
from queuebench.figures.records import Scope
from queuebench.figures.requirement import Requirement
from queuebench.report import limits as shown

WITHIN_SECONDS = 600.0  # for all searches together
FIRST_OF_QUEUE = 4_000.0  # messages a second to begin with
OVERLOAD = 1.2  # … and so much more than the slots carry, which shows what they do


@dataclass(frozen=True)
class Fleet:
    """What is searched with."""

    queue: str
    scope: Scope
    subscribers: int
    workers: int
    publishers: int
    settings: Mapping[str, str]
    sqs_options: Sequence[str]
    varied: Mapping[str, str]

    @property
    def name(self) -> str:
        """What tells this one from others, in a few words."""
        varied = "".join(f", {name}={value}" for name, value in self.varied.items())
        return f"{self.queue}{varied}, {shown.SCOPES[self.scope]}"


def main(argv: list[str]) -> int:
    """Search; return 0 where every limit was found, 1 where one could not be told, 130 where stopped."""
    options = _parser().parse_args(argv)
    fleets = list(_fleets(options))
    requirements = [requirement.parse(text) for text in options.require or [REQUIRED]]
    if options.within is None:
        options.within = WITHIN_SECONDS * max(1, len(fleets) / 4)
    with fleet.stopping() as stopped:
        found: list[RateLimit] = []
        give_up_at = time.monotonic() + options.within
        try:
            for number, searched in enumerate(fleets):
                left = (give_up_at - time.monotonic()) / (len(fleets) - number)
                print(f"\n{searched.name}: at most {left:,.0f} s", flush=True)
                found.append(_search(searched, options, requirements, left, stopped))
                print(f"{searched.name}: {shown.sentence(found[-1])}", flush=True)
        except KeyboardInterrupt:
            print("limit: stopped; nothing is left running", file=sys.stderr)
            if not found:
                return 130
        path = _write(options.results, found)
        code = shown.show(found)
        print(f"\nreport: {path}")
        return 130 if stopped.is_set() else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m queuebench limit", description=__doc__)
    fleet.add_options(parser)
    parser.add_argument("--scope", default="whole,queue", help="whole, queue, or both (default: %(default)s)")
    parser.add_argument("--publishers", type=fleet.processes, default=1, metavar="N")
    parser.add_argument("--within", type=_seconds, metavar="SECONDS", help="for all searches (default: 600)")
    parser.add_argument("--quick", action="store_true", help="leave the proof out, and say so")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="search for each: SUBSCRIBERS, WORKERS, or any setting",
    )
    requirement.add_option(parser, f"what a rate that holds must meet (default: '{REQUIRED}')")
    return parser


def _fleets(options: argparse.Namespace) -> Iterator[Fleet]:
    queues = fleet.queues_of(options.queue)
    scopes = [name.strip().lower() for name in options.scope.split(",")]
    if unknown := [name for name in scopes if name not in tuple(Scope)]:
        raise SettingsError(f"--scope {unknown[0]!r}: whole or queue is needed")
    settings = {"WORKER_SLOTS": fleet.DEFAULT_SLOTS, **fleet.settings_of(options.set)}
    varied = [fleet.vary(text) for text in options.vary]
    if any(name == "QUEUE" for name, _ in varied):
        raise SettingsError("--vary QUEUE: choose queues with --queue REDIS,SQS")
    for queue in queues:
        for values in itertools.product(*(values for _, values in varied)):
            chosen = dict(zip((name for name, _ in varied), values, strict=True))
            for scope in map(Scope, scopes):
                workers = int(chosen.get("WORKERS", options.workers))
                yield Fleet(
                    queue,
                    scope,
                    int(chosen.get("SUBSCRIBERS", options.subscribers)),
                    0 if scope is Scope.QUEUE else workers,
                    options.publishers,
                    {**settings, **{name: chosen[name] for name in chosen if name not in fleet.PROCESSES}},
                    options.sqs.split(),
                    chosen,
                )


def _search(
    searched: Fleet,
    options: argparse.Namespace,
    requirements: Sequence[Requirement],
    within_seconds: float,
    stopped: threading.Event,
) -> RateLimit:
    with (
        fleet.scratch(searched.queue) as folder,
        Stack(
            Path(folder),
            searched.queue,
            subscribers=searched.subscribers,
            workers=searched.workers,
            settings=searched.settings,
            results=options.results,
            sqs_options=searched.sqs_options,
            stopped=stopped,
        ) as stack,
    ):
        bed = Bed(
            stack,
            stopped,
            publishers=searched.publishers,
            requirements=requirements,
            say=lambda tried: print(f"  {shown.step(tried)}", flush=True),
        )
        first = first_rate(searched.scope, searched.workers, settings_module.load(stack.environment))
        return bed.search(
            first, proof=not options.quick, within_seconds=within_seconds, varied=searched.varied
        )


def first_rate(scope: Scope, workers: int, settings: settings_module.Settings) -> float:
    """Return the messages a second to begin with."""
    if scope is Scope.QUEUE or not settings.push_seconds:
        return FIRST_OF_QUEUE
    return OVERLOAD * workers * settings.worker_slots / settings.push_seconds


def _write(results: Path, found: Sequence[RateLimit]) -> Path:
    folder = results / "limits"
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
        path = path.with_suffix(".html")
        path.write_text(shown.page(found), encoding="utf-8")
    except OSError as error:
        raise QueueBenchError(f"cannot write {path}: {error.strerror}; choose another --results") from error
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds from 1 to 86400 are needed")
    return seconds
