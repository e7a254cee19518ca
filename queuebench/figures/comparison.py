"""Summaries side by side: repeats merged into median and spread, and what to conclude from them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from queuebench.errors import QueueBenchError
from queuebench.figures import planner

Summary = Mapping[str, Any]

# Settings that say where something is, not what it does.
PLACES = ("CHANNEL_NAME", "MESSAGES")


class RecordError(QueueBenchError):
    """A run's record cannot be read."""


@dataclass(frozen=True)
class Group:
    """The runs of one queue with the same settings."""

    name: str
    runs: Sequence[Summary]
    middle: Summary  # the median of every figure

    @property
    def typical(self) -> Summary:
        """Return the run in the middle, by the time that it took."""
        runs = trusted(self.runs)
        return sorted(runs, key=lambda run: run["seconds"]["total"])[(len(runs) - 1) // 2]

    @property
    def bottleneck(self) -> str:
        """Return the stage that bounds these runs, and why."""
        return bottleneck_text(self.typical)


@dataclass(frozen=True)
class Cell:
    """One figure of one group: the median, and from where to where it goes."""

    text: str
    spread: str = ""


@dataclass(frozen=True)
class Row:
    """One figure of every group."""

    section: str
    name: str
    cells: Sequence[Cell]


def exit_code(summaries: Sequence[Summary]) -> int:
    """Return 0 where every run is valid and over and lost nothing, else 1."""
    fine = all(verdict(summary)[0] == "valid" for summary in summaries)
    return 0 if summaries and fine else 1


def verdict(summary: Summary) -> tuple[str, str]:
    """Return ("valid"|"invalid"|"lost"|"running", what to say)."""
    lost = summary["counts"]["lost"]
    losing = f"LOST {lost:,} of {summary['counts']['published']:,} messages" if lost else ""
    if summary["reasons"]:
        return "invalid", "NOT VALID: " + "; ".join([*summary["reasons"], *([losing] if losing else [])])
    if lost:
        return "lost", losing
    if summary["ended"] is None:
        return "running", "still running"
    return "valid", "valid: everything that was published was delivered" + (
        f", but for {summary['counts']['dead_lettered']:,} dead letters"
        if summary["counts"]["dead_lettered"]
        else ""
    )


def trusted(runs: Sequence[Summary]) -> Sequence[Summary]:
    """Return the runs whose figures count: the valid ones, or all where none is."""
    return [run for run in runs if not run["reasons"]] or runs


def bottleneck_text(summary: Summary) -> str:
    """Return "stage: why"."""
    return f"{summary['bottleneck']['stage']}: {summary['bottleneck']['why']}"


def group(summaries: Sequence[Summary]) -> list[Group]:
    """Return the runs grouped by queue and settings, in the order in which they came."""
    by_key: dict[tuple[Any, ...], list[Summary]] = {}
    for summary in summaries:
        by_key.setdefault(_key(summary), []).append(summary)
    names = _names(list(by_key))
    return [Group(name, runs, _middle(runs)) for name, runs in zip(names, by_key.values(), strict=True)]


def rows(groups: Sequence[Group]) -> list[Row]:
    """Return the comparison as a table: a row a figure, a cell a group."""

    def row(section: str, name: str, figure: Figure, show: Show) -> Row:
        return Row(
            section, name, [_cell([figure(run) for run in trusted(group.runs)], show) for group in groups]
        )

    def text(section: str, name: str, say: Callable[[Group], str]) -> Row:
        return Row(section, name, [Cell(say(group)) for group in groups])

    def total(name: str, count: str) -> Row:
        return text("Messages", name, lambda g: f"{sum(run['counts'][count] for run in g.runs):,}")

    volume = _volume(groups)
    table = [
        text("Messages", "verdict", _verdicts),
        text("Messages", "bottleneck", lambda group: str(group.typical["bottleneck"]["stage"])),
        text("Messages", "published", lambda g: _published(g.runs)),
        total("delivered", "delivered"),
        total("lost", "lost"),
        total("duplicated", "duplicated"),
        total("dead-lettered", "dead_lettered"),
        total("POSTs made again", "retried"),
        row("Speed", "publish", lambda s: _or_none(s["rates"]["publish"]), _rate),
        row("Speed", "receive", lambda s: _or_none(s["rates"]["receive"]), _rate),
        row("Speed", "hand over", lambda s: _or_none(s["rates"]["hand_over"]), _rate),
        row("Speed", "push", lambda s: _or_none(s["rates"]["push"]), _rate),
        row("Speed", "first publish to last delivery", lambda s: s["seconds"]["total"], _seconds),
    ]
    for stage, name in STAGES.items():
        for quantile in ("p50", "p99"):
            table.append(row("Latency", f"{name}, {quantile}", _latency(stage, quantile), _ms))
    for role in ("publisher", "subscriber", "worker"):
        table.append(row("CPU per message", role, _cpu_us(role), _us))
    for role in ("publisher", "subscriber", "worker"):
        table.append(row("Memory", f"{role}, peak of a process", _role(role, "max_rss_mib"), _mib))
    table += [
        row("Memory", "Redis, the queue: peak", _server("queue"), _mib),
        row("Memory", "Redis, Celery's broker: peak", _server("broker"), _mib),
        row("Cost", "SQS requests a message", _requests, _few),
        row("Cost", "SQS requests of this run", lambda s: s["cost"]["sqs_usd"], _usd),
        row("Cost", f"queue, a month at {volume}", lambda s: s["cost"]["queue_usd_per_month"], _usd),
        row(
            "Cost",
            f"workers, a month at {volume}",
            lambda s: s["cost"]["workers_usd_per_month"],
            _usd,
        ),
        row("Cost", "as dear as a Redis at", lambda s: s["cost"]["break_even_messages_per_day"], _a_day),
    ]
    return [row for row in table if any(cell.text != NOTHING for cell in row.cells)]


STAGES = {
    "publish": "publish call",
    "queue_wait": "queue wait",
    "hand_over": "hand-over",
    "celery_wait": "Celery wait",
    "push": "push (POST)",
    "end_to_end": "end to end",
}
NOTHING = "–"

Figure = Callable[[Summary], float | None]
Show = Callable[[float], str]


def how_many(group: Group, target: int, hours: float) -> dict[str, Any] | None:
    """Return what a target needs, by the medians of the group."""
    return planner.how_many(group.middle, target, hours)


def _cell(values: Sequence[float | None], show: Show) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return Cell(NOTHING)
    if len(known) == 1:
        return Cell(show(known[0]))
    least, most = show(min(known)), show(max(known))
    return Cell(show(statistics.median(known)), f"{least} … {most}" if least != most else "")


def _verdicts(group: Group) -> str:
    kinds = [verdict(run)[0] for run in group.runs]
    words = {"valid": "valid", "invalid": "NOT VALID", "lost": "LOST MESSAGES", "running": "running"}
    if len(kinds) == 1:
        return words[kinds[0]]
    parts = [f"{kinds.count(kind)} {word}" for kind, word in words.items() if kind in kinds]
    return f"{len(kinds)} runs: " + ", ".join(parts)


def _published(runs: Sequence[Summary]) -> str:
    published = [run["counts"]["published"] for run in runs]
    if len(runs) > 1 and len(set(published)) == 1:
        return f"{len(runs)} × {published[0]:,}"
    return f"{sum(published):,}"


def _or_none(value: float) -> float | None:
    return value or None


def _latency(stage: str, quantile: str) -> Figure:
    def figure(summary: Summary) -> float | None:
        latency = summary["latency_ms"][stage]
        return float(latency[quantile]) if latency["count"] else None

    return figure


def _role(role: str, figure: str) -> Figure:
    return lambda summary: _number(summary["resources"].get(role), figure)


def _cpu_us(role: str) -> Figure:
    return lambda summary: _number(summary["resources"].get(role), "cpu_us_per_message") or None


def _server(name: str) -> Figure:
    return lambda summary: _number(summary["servers"].get(name), "peak_memory_mib")


def _number(figures: Mapping[str, Any] | None, name: str) -> float | None:
    value = figures.get(name) if figures else None
    return None if value is None else float(value)


def _requests(summary: Summary) -> float | None:
    if not summary["sqs"] or not summary["counts"]["published"]:
        return None
    made: int = sum(summary["sqs"]["requests"].values())
    return made / int(summary["counts"]["published"])


def _volume(groups: Sequence[Group]) -> str:
    volumes = {group.middle["cost"]["messages_per_day"] for group in groups}
    return f"{volumes.pop():,.0f} a day" if len(volumes) == 1 else "MESSAGES_PER_DAY"


def _rate(value: float) -> str:
    return f"{value:,.0f}/s" if value >= 100 else f"{value:,.1f}/s"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s"


def _ms(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:,.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.2g} ms" if value < 10 else f"{value:.1f} ms"


def _us(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:,.2f} ms"
    return f"{value:.0f} µs" if value >= 10 else f"{value:.1f} µs"


def _mib(value: float) -> str:
    return f"{value:,.0f} MiB" if value >= 10 else f"{value:.1f} MiB"


def _few(value: float) -> str:
    return f"{value:.2f}"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.4f}"


def _a_day(value: float) -> str:
    return f"{value:,.0f} a day"


def _key(summary: Summary) -> tuple[Any, ...]:
    """Return what makes two runs repeats of one another."""
    settings = {
        name: (bool(value) if name == "PUSH_URL" else value)
        for name, value in summary["settings"].items()
        if name not in PLACES and (name == "PUSH_URL" or not name.endswith(("_URL", "_URL_SQS")))
    }
    roles = {role: used["processes"] for role, used in summary["resources"].items() if role != "endpoint"}
    return (
        summary["label"],
        ("messages", summary["messages"]),
        *((f"{role}s", number) for role, number in sorted(roles.items())),
        *((name, str(value)) for name, value in sorted(settings.items())),
    )


def _names(keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return each group's queue, with what tells it from other groups of the same queue."""
    names = []
    for key in keys:
        same = [dict(other[1:]) for other in keys if other[0] == key[0]]
        apart = []
        for name, value in key[1:]:
            if any(other.get(name) != value for other in same):
                apart.append(f"{value:,} {name}" if isinstance(value, int) else f"{name}={value}")
        names.append(", ".join([str(key[0]), *apart]))
    return names


def _middle(runs: Sequence[Summary]) -> Summary:
    middle: dict[str, Any] = _median(trusted(runs))
    # What a process carries follows from the medians, with a reason that fits them.
    return {**middle, "capacity": planner.per_process(middle)}


def _median(values: Sequence[Any]) -> Any:
    """Return the same structure with the median of every number, and the first of all else."""
    first = values[0]
    if isinstance(first, bool) or len(values) == 1:
        return first
    if isinstance(first, int | float):
        numbers = [value for value in values if isinstance(value, int | float)]
        return statistics.median(numbers)
    if isinstance(first, dict):
        return {
            name: _median([value[name] for value in values if isinstance(value, dict) and name in value])
            for name in first
        }
    return first
