"""`queuebench limit`: the highest rate that each queue holds with a given fleet, found and proven.

Two limits a queue: of the whole pipeline, and of the queue with its subscribers alone, where a drain stands
in the place of the workers. Servers and processes are started here, as `bench` does, and gone afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
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
from queuebench.experiment.search import Probe, Seen, search
from queuebench.figures import steady
from queuebench.figures.limits import RateLimit, Step, Why
from queuebench.figures.records import Scope, Summary, read_summary
from queuebench.figures.requirement import Requirement
from queuebench.figures.requirement import parse as requirement
from queuebench.figures.steady import Judgement, Sign
from queuebench.measuring import series
from queuebench.measuring.series import Point
from queuebench.report import limits as shown

REQUIRED = "queue_wait.p99 <= 1 s"
WITHIN_SECONDS = 600.0  # for all searches together
SETTLE_SECONDS = 1.0  # of each probe, before what is looked at begins
OVERHEAD_SECONDS = 5.0  # of each probe: a publisher starts, a run ends
END_SECONDS = 120.0  # that a run may take to end after its publisher
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
        what = "the whole" if self.scope is Scope.WHOLE else "the queue with its subscribers"
        varied = "".join(f", {name}={value}" for name, value in self.varied.items())
        return f"{self.queue}{varied}, {what}"


def main(argv: list[str]) -> int:
    """Search; return 0 where every limit was found, 1 where one could not be told, 130 where stopped."""
    options = _parser().parse_args(argv)
    fleets = list(_fleets(options))
    requirements = [requirement(text) for text in options.require or [REQUIRED]]
    if options.within is None:
        options.within = WITHIN_SECONDS * max(1, len(fleets) / 4)
    with fleet.stopping() as stopped:
        found: list[RateLimit] = []
        give_up_at = time.monotonic() + options.within
        try:
            for number, searched in enumerate(fleets):
                left = (give_up_at - time.monotonic()) / (len(fleets) - number)
                print(f"\n{searched.name}: at most {left:,.0f} s", flush=True)
                with _Bed(searched, options.results, requirements, stopped) as bed:
                    found.append(bed.search(not options.quick, left))
                print(f"{searched.name}: {shown.sentence(found[-1])}", flush=True)
        except KeyboardInterrupt:
            print("limit: stopped; nothing is left running", file=sys.stderr)
            if not found:
                return 130
        path = _write(options.results, found)
        code = shown.show(found)
        print(f"\nlimits: {path}")
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
    fleet.add_require(parser, f"what a rate that holds must meet (default: '{REQUIRED}')")
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


class _Bed:
    """A running stack in which rates are tried, one run each."""

    def __init__(
        self,
        searched: Fleet,
        results: Path,
        requirements: Sequence[Requirement],
        stopped: threading.Event,
    ) -> None:
        self._fleet, self._results, self._requirements = searched, results, requirements
        self._stopped = stopped
        self._scratch = fleet.scratch(searched.queue)
        self._steps: list[Step] = []
        self._runs: dict[str, Summary] = {}

    def __enter__(self) -> _Bed:
        searched = self._fleet
        with contextlib.ExitStack() as cleanup:
            folder = cleanup.enter_context(self._scratch)
            self._stack = cleanup.enter_context(
                Stack(
                    Path(folder),
                    searched.queue,
                    subscribers=searched.subscribers,
                    workers=searched.workers,
                    settings=searched.settings,
                    results=self._results,
                    sqs_options=searched.sqs_options,
                    stopped=self._stopped,
                )
            )
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def search(self, proof: bool, within_seconds: float) -> RateLimit:
        """Look for the highest rate that holds, for at most so long."""
        give_up_at = time.monotonic() + within_seconds
        looking = search(self._first(), proof)
        probe = next(looking)
        while True:
            needed = probe.seconds + SETTLE_SECONDS + OVERHEAD_SECONDS
            seen = Seen(None, stop=True)
            if time.monotonic() + needed <= give_up_at:
                seen = self._try(probe)
            try:
                probe = looking.send(seen)
            except StopIteration as ended:
                return self._limit(ended.value.rate, ended.value.fails_at, ended.value.why)

    def _first(self) -> float:
        settings = settings_module.load({**self._stack.environment})
        if self._fleet.scope is Scope.QUEUE or not settings.push_seconds:
            return FIRST_OF_QUEUE
        return OVERLOAD * self._fleet.workers * settings.worker_slots / settings.push_seconds

    def _try(self, probe: Probe) -> Seen:
        run, points, began_at, ended_at = self._run(probe)
        judged = steady.judge(run, points, probe.rate, began_at, ended_at, self._requirements)
        self._runs[run.run_id] = run
        self._steps.append(_step(probe, run, judged))
        print(f"  {shown.step(self._steps[-1])}", flush=True)
        return Seen(judged.held, judged.carried, capped=judged.sign is Sign.PUBLISHER)

    def _run(self, probe: Probe) -> tuple[Summary, list[Point], float, float]:
        """Hold a rate; return the run, its series, and between which Unix seconds it is to be looked at."""
        before = set(self._results.glob("*/summary.json"))
        load = {
            "RATE": f"{probe.rate / self._fleet.publishers:.6f}",
            "DURATION": f"{probe.seconds + SETTLE_SECONDS:g}",
            "WARM_UP": f"{SETTLE_SECONDS:g}",
        }
        with (self._stack.folder / "publishers.log").open("ab") as log:
            publishers = [self._stack.publish(settings=load, log=log) for _ in range(self._fleet.publishers)]
            try:
                for publisher in publishers:
                    fleet.wait(publisher, self._stopped)
            finally:
                for publisher in publishers:
                    fleet.end(publisher)
        ended_at = time.time()
        path = self._finished(before)
        run = read_summary(path.read_bytes(), str(path))
        points = series.read(path.with_name("series.jsonl")).points()
        return run, points, ended_at - probe.seconds, ended_at

    def _finished(self, before: set[Path]) -> Path:
        give_up_at = time.monotonic() + END_SECONDS
        while not (new := set(self._results.glob("*/summary.json")) - before):
            if self._stopped.wait(0.1):
                raise KeyboardInterrupt
            if time.monotonic() > give_up_at:
                raise QueueBenchError(
                    f"a run had not ended {END_SECONDS:.0f} s after its publisher: "
                    f"look into {self._stack.folder / 'logs'}"
                )
        return new.pop()

    def _limit(self, rate: float | None, fails_at: float | None, why: Why) -> RateLimit:
        failed = [step for step in self._steps if step.held is False and step.rate == fails_at]
        held = [step for step in self._steps if step.held and step.rate == rate]
        at_rate = self._runs[max(held, key=lambda step: step.seconds).run_id] if held else None
        above = self._runs[failed[-1].run_id] if failed else None
        any_run = next(iter(self._runs.values()), None)
        return RateLimit(
            queue=self._fleet.queue,
            label=any_run.label if any_run is not None else self._fleet.queue,
            scope=self._fleet.scope,
            rate=rate,
            fails_at=fails_at,
            why=why,
            steps=self._steps,
            settings=any_run.settings if any_run is not None else {},
            subscribers=self._fleet.subscribers,
            workers=self._fleet.workers,
            varied=dict(self._fleet.varied),
            gave_in=above.bottleneck if above is not None else None,
            sign=failed[-1].sign if failed else None,
            latency_ms=at_rate.latency_ms if at_rate is not None else {},
            proven=why is Why.PROVEN,
        )


def _step(probe: Probe, run: Summary, judged: Judgement) -> Step:
    age = judged.age
    return Step(
        rate=probe.rate,
        seconds=probe.seconds,
        kind=probe.kind,
        run_id=run.run_id,
        held=judged.held,
        sign=judged.sign,
        slope=age.slope if age is not None else None,
        slope_low=age.low if age is not None else None,
        slope_high=age.high if age is not None else None,
        carried=judged.carried,
    )


def _write(results: Path, found: Sequence[RateLimit]) -> Path:
    folder = results / "limits"
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
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
