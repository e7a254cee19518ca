"""The comparison as a table: a row a figure, a cell a group, everything as text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queuebench.figures.comparison import Group
from queuebench.figures.findings import Server
from queuebench.figures.records import Summary, Verdict
from queuebench.measuring.records import Role, Stage
from queuebench.report import words
from queuebench.report.words import NOTHING

ROLES = (Role.PUBLISHER, Role.SUBSCRIBER, Role.WORKER)

Figure = Callable[[Summary], float | None]
Show = Callable[[float], str]


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


def rows(groups: Sequence[Group]) -> list[Row]:
    """Return a row for each figure that at least one group has."""

    def row(section: str, name: str, figure: Figure, show: Show) -> Row:
        return Row(section, name, [_cell([figure(run) for run in group.counted], show) for group in groups])

    def text(name: str, say: Callable[[Group], str]) -> Row:
        return Row("Messages", name, [Cell(say(group)) for group in groups])

    def total(name: str, count: Callable[[Summary], int]) -> Row:
        return text(name, lambda group: f"{sum(map(count, group.runs)):,}")

    if not groups:
        return []
    volume = _volume(groups)
    table = [
        text("verdict", _verdicts),
        text("bottleneck", lambda group: words.cut(words.place(group.bottleneck, group.middle.label), 60)),
        text("published", lambda group: _published(group.runs)),
        total("delivered", lambda run: run.counts.delivered),
        total("lost", lambda run: run.counts.lost),
        total("duplicated", lambda run: run.counts.duplicated),
        total("dead-lettered", lambda run: run.counts.dead_lettered),
        total("POSTs made again", lambda run: run.counts.retried),
        row("Speed", "asked of the publishers", lambda run: run.load.asked or None, _rate),
        row("Speed", "due and not sent", lambda run: run.load.behind if run.load.asked else None, _number),
        row("Speed", "publish", lambda run: run.rates.publish or None, _rate),
        row("Speed", "receive", lambda run: run.rates.receive or None, _rate),
        row("Speed", "hand over", lambda run: run.rates.hand_over or None, _rate),
        row("Speed", "push", lambda run: run.rates.push or None, _rate),
        row("Speed", "first publish to last delivery", lambda run: run.seconds.total, _seconds),
    ]
    for stage, name in words.STAGES.items():
        for quantile in ("p50", "p99"):
            table.append(row("Latency", f"{name}, {quantile}", _latency(stage, quantile), _ms))
    for role in ROLES:
        table.append(row("CPU per message", role.value, _cpu_us(role), _us))
    for role in ROLES:
        table.append(row("Memory", f"{role.value}, peak of a process", _memory(role), _mib))
    table += [
        row("Memory", "Redis, the queue: peak", _peak(Server.QUEUE), _mib),
        row("Memory", "Redis, Celery's broker: peak", _peak(Server.BROKER), _mib),
        row("Cost", "SQS requests a message", _requests, _few),
        row("Cost", "SQS requests of this run", lambda run: run.cost.sqs_usd, _usd),
        row("Cost", f"queue, a month at {volume}", lambda run: run.cost.queue_usd_per_month, _usd),
        row("Cost", f"workers, a month at {volume}", lambda run: run.cost.workers_usd_per_month, _usd),
        row("Cost", "as dear as a Redis at", lambda run: run.cost.break_even_messages_per_day, _a_day),
    ]
    return [row for row in table if any(cell.text != NOTHING for cell in row.cells)]


def _cell(values: Sequence[float | None], show: Show) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return Cell(NOTHING)
    if len(known) == 1:
        return Cell(show(known[0]))
    least, most = show(min(known)), show(max(known))
    return Cell(show(statistics.median(known)), f"{least} … {most}" if least != most else "")


def _verdicts(group: Group) -> str:
    found = [run.verdict for run in group.runs]
    if len(found) == 1:
        return words.VERDICTS[found[0]]
    parts = [f"{found.count(kind)} {words.VERDICTS[kind]}" for kind in Verdict if kind in found]
    return f"{len(found)} runs: " + ", ".join(parts)


def _published(runs: Sequence[Summary]) -> str:
    published = [run.counts.published for run in runs]
    if len(runs) > 1 and len(set(published)) == 1:
        return f"{len(runs)} × {published[0]:,}"
    return f"{sum(published):,}"


def _latency(stage: Stage, quantile: str) -> Figure:
    def figure(run: Summary) -> float | None:
        latency = run.latency(stage)
        return float(getattr(latency, quantile)) if latency.count else None

    return figure


def _cpu_us(role: Role) -> Figure:
    def figure(run: Summary) -> float | None:
        used = run.resources.get(role)
        return used.cpu_us_per_message or None if used is not None else None

    return figure


def _memory(role: Role) -> Figure:
    def figure(run: Summary) -> float | None:
        used = run.resources.get(role)
        return used.max_rss_mib if used is not None else None

    return figure


def _peak(name: Server) -> Figure:
    def figure(run: Summary) -> float | None:
        server = run.servers.get(name)
        return server.peak_memory_mib if server is not None else None

    return figure


def _requests(run: Summary) -> float | None:
    if run.sqs is None or not run.counts.published:
        return None
    return sum(run.sqs.requests.values()) / run.counts.published


def _volume(groups: Sequence[Group]) -> str:
    volumes = {group.middle.cost.messages_per_day for group in groups}
    return f"{volumes.pop():,.0f} a day" if len(volumes) == 1 else "MESSAGES_PER_DAY"


def _rate(value: float) -> str:
    return f"{value:,.0f}/s" if value >= 100 else f"{value:,.1f}/s"


def _number(value: float) -> str:
    return f"{value:,.0f}"


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
