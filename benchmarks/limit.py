"""Whether the search for the highest rate that holds finds ceilings that are known.

    python -m benchmarks.limit [--searches 10] [--quick] [--case quota]

Three of them: a FIFO queue's quota of calls (each carries ten messages), a worker's slots divided by the
seconds of a POST, and a subscriber that lets only so many through. Goal: within 3 % in 9 of 10 searches of
each. A search is kept in `.bench/limit.jsonl` as soon as it is over; started again, it goes on. `--quick`
leaves the proof out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from queuebench.bench.stack import Service, Stack
from queuebench.errors import QueueBenchError
from queuebench.experiment.bed import Bed
from queuebench.experiment.search import SECONDS
from queuebench.figures.limits import Kind, RateLimit
from queuebench.report import limits as shown

WITHIN, OF_TEN = 0.03, 9
SEARCH_SECONDS = 400.0
KEPT = Path(".bench/limit.jsonl")


@dataclass(frozen=True)
class Case:
    """A pipeline whose ceiling is known."""

    name: str
    queue: str
    ceiling: float  # messages a second
    first: float  # where the search begins
    workers: int = 0  # none: a drain
    settings: Mapping[str, str] = field(default_factory=dict)
    sqs: Sequence[str] = ()
    throttled: bool = False


CASES = (
    # A FIFO queue takes so many calls a second of each action; ten messages fit into one.
    Case(
        "quota",
        "SQS",
        200.0,
        300.0,
        settings={"QUEUE_NAME": "limit.fifo", "SQS_THREADS": "2"},
        sqs=("--latency", "0", "--fifo-quota", "20"),
    ),
    Case("slots", "REDIS", 40.0, 100.0, workers=1, settings={"WORKER_SLOTS": "40", "PUSH_SECONDS": "1"}),
    Case("throttle", "REDIS", 300.0, 100.0, settings={"THROTTLE": "300"}, throttled=True),
)


class _Stack(Stack):
    """A stack whose subscribers may be throttled."""

    throttled = False

    def add_subscriber(self, number: int) -> Service:
        service = super().add_subscriber(number)
        if self.throttled:
            service.argv = [sys.executable, "-m", "benchmarks.throttled_subscriber"]
        return service


def searched(
    case: Case,
    folder: Path,
    proof: bool,
    within_seconds: float = SEARCH_SECONDS,
    seconds: Mapping[Kind, float] = SECONDS,
) -> RateLimit:
    """Search for the ceiling of a case, in a stack of its own."""
    stack = _Stack(
        folder, case.queue, workers=case.workers, settings=case.settings, sqs_options=list(case.sqs)
    )
    stack.throttled = case.throttled
    with stack:
        bed = Bed(stack, threading.Event(), say=lambda tried: print(f"  {shown.step(tried)}", flush=True))
        return bed.search(case.first, proof=proof, within_seconds=within_seconds, seconds=seconds)


def main() -> int:
    """Search as often as asked, and print how near each came; return 0 where the goal is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limit", description=__doc__)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="without the proof")
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--anew", action="store_true", help="forget what was searched before")
    options = parser.parse_args()
    KEPT.parent.mkdir(exist_ok=True)
    if options.anew:
        KEPT.unlink(missing_ok=True)
    code = 0
    for case in CASES:
        if options.case not in (None, case.name):
            continue
        while len(done := _done(case, options.quick)) < options.searches:
            print(f"{case.name}: search {len(done) + 1} of {options.searches}", flush=True)
            began = time.monotonic()
            with tempfile.TemporaryDirectory(dir=KEPT.parent, prefix="limit-") as folder:
                try:
                    found = searched(case, Path(folder), not options.quick)
                    line = {"rate": found.rate, "fails_at": found.fails_at, "why": str(found.why)}
                except QueueBenchError as error:
                    line = {"rate": None, "fails_at": None, "why": str(error)}
            kept = {"case": case.name, "ceiling": case.ceiling, "quick": options.quick, **line}
            with KEPT.open("a") as lines:
                lines.write(json.dumps({**kept, "seconds": round(time.monotonic() - began, 1)}) + "\n")
        code = max(code, _say(case, done[: options.searches]))
    return code


def _done(case: Case, quick: bool) -> list[dict[str, float | str | None]]:
    if not KEPT.exists():
        return []
    lines = [json.loads(line) for line in KEPT.read_text().splitlines()]
    return [
        line
        for line in lines
        if (line["case"], line["ceiling"], line["quick"]) == (case.name, case.ceiling, quick)
    ]


def _say(case: Case, done: Sequence[Mapping[str, float | str | None]]) -> int:
    errors = [float(line["rate"]) / case.ceiling - 1.0 if line["rate"] else None for line in done]
    near = sum(error is not None and abs(error) <= WITHIN for error in errors)
    reached = near * 10 >= OF_TEN * len(done)
    told = ", ".join("none" if error is None else f"{error:+.1%}" for error in errors)
    print(f"{case.name}: ceiling {shown.rate(case.ceiling)}; off by {told}")
    print(f"  within 3 %: {near} of {len(done)} (goal: 9 of 10): {'reached' if reached else 'NOT reached'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
