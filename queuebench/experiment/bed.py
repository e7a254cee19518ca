"""A bed to try rates in: a running stack, in which each rate is held by a run of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from queuebench.bench import fleet
from queuebench.bench.stack import Stack
from queuebench.errors import QueueBenchError
from queuebench.experiment.search import SECONDS, Probe, Seen, search
from queuebench.figures import steady
from queuebench.figures.limits import Kind, RateLimit, Step, Why
from queuebench.figures.records import Scope, Summary
from queuebench.figures.requirement import Requirement
from queuebench.figures.requirement import parse as requirement
from queuebench.figures.steady import Judgement, Sign
from queuebench.measuring import series
from queuebench.measuring.series import Point
from queuebench.report.cli import read_run

REQUIRED = "queue_wait.p99 <= 1 s"
SETTLE_SECONDS = 1.0  # of each probe, before what is looked at begins
OVERHEAD_SECONDS = 5.0  # of each probe: a publisher starts, a run ends
END_SECONDS = 120.0  # that a run may take to end after its publisher


class Bed:
    """Rates are tried in it, one run each."""

    def __init__(
        self,
        stack: Stack,
        stopped: threading.Event,
        *,
        publishers: int = 1,
        requirements: Sequence[Requirement] = (requirement(REQUIRED),),
        say: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        self._stack, self._stopped, self._say = stack, stopped, say
        self._publishers, self._requirements = publishers, requirements
        self._steps: list[Step] = []
        self._runs: dict[str, Summary] = {}

    def search(
        self,
        first: float,
        *,
        proof: bool,
        within_seconds: float,
        seconds: Mapping[Kind, float] = SECONDS,
        varied: Mapping[str, str] | None = None,
    ) -> RateLimit:
        """Look for the highest rate that holds, for at most so long; each rate for as long as `seconds` says.

        Raises:
            KeyboardInterrupt: a stop was asked for.
            QueueBenchError: a run did not end.
        """
        give_up_at = time.monotonic() + within_seconds
        looking = search(first, proof, seconds=seconds)
        probe = next(looking)
        while True:
            needed = probe.seconds + SETTLE_SECONDS + OVERHEAD_SECONDS
            seen = Seen(None, stop=True)
            if time.monotonic() + needed <= give_up_at:
                seen = self._try(probe)
            try:
                probe = looking.send(seen)
            except StopIteration as ended:
                found = ended.value
                return self._limit(found.rate, found.fails_at, found.why, dict(varied or {}))

    def hold(self, rate: float, seconds: float) -> tuple[Summary, list[Point], Path]:
        """Hold a rate in a run of its own; return the run, its series and its folder.

        Raises:
            KeyboardInterrupt: a stop was asked for.
            QueueBenchError: the run did not end.
        """
        results = self._stack.results
        before = set(results.glob("*/summary.json"))
        load = {
            "RATE": f"{rate / self._publishers:.6f}",
            "DURATION": f"{seconds + SETTLE_SECONDS:g}",
        }
        with (self._stack.folder / "publishers.log").open("ab") as log:
            publishers = [self._stack.publish(settings=load, log=log) for _ in range(self._publishers)]
            try:
                for publisher in publishers:
                    fleet.wait(publisher, self._stopped)
            finally:
                for publisher in publishers:
                    fleet.end(publisher)
        path = self._finished(before)
        run = read_run(path.parent)
        return run, series.read(path.with_name("series.jsonl")).points(), path.parent

    def _try(self, probe: Probe) -> Seen:
        run, points, _ = self.hold(probe.rate, probe.seconds)
        judged = steady.judge(run, points, probe.rate, probe.seconds, self._requirements)
        self._runs[run.run_id] = run
        self._steps.append(_step(probe, run, judged))
        self._say(self._steps[-1])
        return Seen(judged.held, judged.carried, capped=judged.sign is Sign.PUBLISHER)

    def _finished(self, before: set[Path]) -> Path:
        give_up_at = time.monotonic() + END_SECONDS
        while not (new := set(self._stack.results.glob("*/summary.json")) - before):
            if self._stopped.wait(0.1):
                raise KeyboardInterrupt
            if time.monotonic() > give_up_at:
                raise QueueBenchError(
                    f"a run had not ended {END_SECONDS:.0f} s after its publisher: "
                    f"look into {self._stack.folder / 'logs'}"
                )
        return new.pop()

    def _limit(
        self, rate: float | None, fails_at: float | None, why: Why, varied: dict[str, str]
    ) -> RateLimit:
        failed = [step for step in self._steps if step.held is False and step.rate == fails_at]
        held = [step for step in self._steps if step.held and step.rate == rate]
        at_rate = self._runs[max(held, key=lambda step: step.seconds).run_id] if held else None
        above = self._runs[failed[-1].run_id] if failed else None
        any_run = next(iter(self._runs.values()), None)
        subscribers, workers = self._stack.counts
        return RateLimit(
            queue=self._stack.queue,
            label=any_run.label if any_run is not None else self._stack.queue,
            scope=Scope.WHOLE if workers else Scope.QUEUE,
            rate=rate,
            fails_at=fails_at,
            why=why,
            steps=self._steps,
            settings=any_run.settings if any_run is not None else {},
            subscribers=subscribers,
            workers=workers,
            varied=varied,
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
