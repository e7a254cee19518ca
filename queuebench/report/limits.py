"""Words and tables for the highest rate that holds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.table import Table
from rich.text import Text

from queuebench.figures.findings import Place
from queuebench.figures.limits import Kind, RateLimit, Step, Why
from queuebench.figures.records import Scope
from queuebench.figures.steady import Sign
from queuebench.measuring.records import Stage
from queuebench.report import words
from queuebench.report.diagrams import Curves, Line, Measured, curves, document
from queuebench.report.terminal import console_of

SCOPES = {Scope.WHOLE: "the whole", Scope.QUEUE: "the queue with its subscribers"}
SIGNS = {
    Sign.STEADY: "the age does not grow",
    Sign.QUEUE_GROWS: "the queue's age grows",
    Sign.CELERY_GROWS: "the wait in Celery grows",
    Sign.REQUIRED: "a requirement is not met",
    Sign.THROTTLED: "the queue throttled the publisher",
    Sign.PUBLISHER: "the publisher did not keep the rate",
    Sign.NOT_VALID: "the run is not valid",
    Sign.LOST: "messages were lost",
    Sign.UNSURE: "the ages scatter too much, or are too few, to tell",
}
WHYS = {
    Why.PROVEN: "held for a minute more, and 5 % more fails",
    Why.CONFIRMED: "not proven: held for 20 s, and 5 % more fails",
    Why.CAPPED: "at least so much: it is the publisher that makes no more",
    Why.TIME: "not confirmed: no time was left",
    Why.UNSURE: "it cannot be told: what was seen contradicts itself, or scatters too much",
}


def step(tried: Step) -> str:
    """Return one line for a probe."""
    said = {True: "holds", False: "FAILS", None: "cannot be told"}[tried.held]
    held_for = "" if tried.kind is Kind.SHORT else f" for {tried.seconds:.0f} s"
    line = f"{rate(tried.rate)}{held_for}: {said}; {SIGNS[tried.sign]}"
    if tried.slope is not None and tried.slope_low is not None and tried.slope_high is not None:
        line += f" ({tried.slope:+.3f} s a second, 95 %: {tried.slope_low:+.3f} to {tried.slope_high:+.3f})"
    if tried.carried is not None:
        line += f"; {rate(tried.carried)} came through"
    return line


def sentence(found: RateLimit) -> str:
    """Return what was found, in a sentence."""
    if found.rate is None:
        below = f", and {rate(found.fails_at)} fails" if found.fails_at is not None else ""
        return f"no rate was seen to hold{below}: {WHYS[found.why]}"
    fails = f", {rate(found.fails_at)} fails" if found.fails_at is not None else ""
    return f"holds {rate(found.rate)}{fails}; {WHYS[found.why]}{_gave_in(found)}"


def show(found: Sequence[RateLimit]) -> int:
    """Print what was found, side by side; return 0 where every limit was told, else 1."""
    console = console_of(None)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    varied = list(dict.fromkeys(name for limit in found for name in limit.varied))
    for name in ("", *varied, "of", "holds", "fails at", "queue wait p50", "p99", "end to end p99"):
        table.add_column(name, justify="left" if name in ("", "of") else "right")
    for limit in found:
        table.add_row(
            Text(limit.label),
            *(Text(limit.varied.get(name, "")) for name in varied),
            Text(SCOPES[limit.scope]),
            Text("?" if limit.rate is None else ("≥ " if limit.why is Why.CAPPED else "") + rate(limit.rate)),
            Text(words.NOTHING if limit.fails_at is None else rate(limit.fails_at)),
            *(
                Text(_latency(limit, *what))
                for what in (
                    (Stage.QUEUE_WAIT, "p50"),
                    (Stage.QUEUE_WAIT, "p99"),
                    (Stage.END_TO_END, "p99"),
                )
            ),
        )
    console.print()
    console.print(table)
    console.print()
    for limit in found:
        console.print(Text(f"{_name(limit)}: {sentence(limit)}"))
    if any(limit.label != "Redis" for limit in found):
        console.print()
        console.print(
            Text("SQS's age is estimated from what was received: its API has no such figure.", style="dim")
        )
    return 0 if all(limit.why in (Why.PROVEN, Why.CONFIRMED) for limit in found) else 1


def page(found: Sequence[RateLimit]) -> str:
    """Return the curve that people want: the highest rate that held over each setting that was varied."""
    said = "".join(f"<li>{escape(f'{_name(limit)}: {sentence(limit)}')}</li>" for limit in found)
    fragments = [f"<ul>{said}</ul>"]
    for over in dict.fromkeys(name for limit in found for name in limit.varied):
        groups: dict[str, list[RateLimit]] = {}
        for limit in found:
            rest = [f"{key}={value}" for key, value in limit.varied.items() if key != over]
            name = ", ".join([limit.label, SCOPES[limit.scope], *rest])
            groups.setdefault(name, []).append(limit)
        lines = [
            Line(
                name,
                [
                    Measured(
                        limit.varied[over],
                        [] if limit.rate is None else [limit.rate],
                        "" if limit.proven else WHYS[limit.why],
                    )
                    for limit in several
                ],
                colour,
            )
            for colour, (name, several) in enumerate(groups.items(), 1)
        ]
        fragments.append(curves(Curves("highest rate that held", over, lines, "/s")))
    return document("The highest rate that holds", fragments)


def rate(per_second: float) -> str:
    """Return a rate in messages a second."""
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:,.3g}/s"


def _name(limit: RateLimit) -> str:
    varied = "".join(f", {key}={value}" for key, value in limit.varied.items())
    return f"{limit.label}{varied}, {SCOPES[limit.scope]}"


def _latency(limit: RateLimit, stage: Stage, quantile: str) -> str:
    latency = limit.latency_ms.get(stage)
    if latency is None or not latency.count:
        return words.NOTHING
    return words.duration(float(getattr(latency, quantile)) / 1000.0)


def _gave_in(found: RateLimit) -> str:
    if found.sign is None:
        return ""
    if found.gave_in is None or found.gave_in.place is Place.NONE:
        return f"; above it {SIGNS[found.sign]}"
    return f"; above it {SIGNS[found.sign]}, by {words.bottleneck(found.gave_in, found.label)}"
