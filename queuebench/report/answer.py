"""The answer to "which queue?" in words: what terminal and report begin with."""

from __future__ import annotations

from queuebench.figures.answer import Answer, Reason, Side
from queuebench.report.words import duration


def sentences(found: Answer) -> list[str]:
    """Return the answer, the figures of each queue, and where the answer turns: a sentence each."""
    at = f"At {_rate(found.per_second)}" if found.per_second else "In a flood"
    if found.chosen is None:
        first = f"Which queue? {at} neither held here: no answer."
        return [first, *(f"{side.label}: {figures(side)}." for side in found.sides)]
    chosen, names = found.chosen, " and ".join(side.label for side in found.others)
    if found.reason is Reason.ONLY_ONE:
        why = f"{at} it held here, and {names} did not"
    elif found.reason is Reason.SPEED:
        why = f"{at} all held here, at the same price, and it is the faster one"
    else:
        dearer = min(found.others, key=lambda side: side.usd_per_month)
        why = (
            f"{at} both held here, and for {found.messages_per_day:,.0f} messages a day it costs "
            f"{_usd(chosen.usd_per_month)} a month, {dearer.label} {_usd(dearer.usd_per_month)}"
        )
    lines = [f"Which queue? {chosen.label}. {why}."]
    lines += [f"{side.label}: {figures(side)}." for side in found.sides]
    if turn := turning(found):
        lines.append(turn)
    return lines


def figures(side: Side) -> str:
    """Return the figures that decide, of one queue."""
    parts = []
    if side.wait_p99_ms is not None:
        parts.append(f"waited for {duration(side.wait_p99_ms / 1000)} in the queue (p99)")
    if side.end_to_end_p99_ms is not None:
        parts.append(f"{duration(side.end_to_end_p99_ms / 1000)} end to end (p99)")
    if not side.holds:
        parts.insert(0, "did not hold")
    if side.limit is not None:
        short = "" if side.limit_proven else ", by a short search"
        up_to = f", {_rate(side.limit_fails_at)} is too much" if side.limit_fails_at is not None else ""
        parts.append(f"the queue with its subscribers carries {_rate(side.limit)} here{up_to}{short}")
    parts.append(f"{_usd(side.usd_per_month)} a month")
    return "; ".join(parts)


def turning(found: Answer) -> str:
    """Return where the answer would be another, or ''."""
    if found.chosen is None or not found.others:
        return ""
    other, parts = found.others[0], []
    if found.turns_at_messages_per_day is not None:
        where = "from" if found.turns_upwards else "below"
        onwards = " on" if found.turns_upwards else ""
        parts.append(f"{where} {found.turns_at_messages_per_day:,} messages a day{onwards}, by price")
    mine, its = found.chosen, other
    if mine.limit_fails_at is not None and (its.limit or 0.0) > mine.limit_fails_at:
        parts.append(f"where more than {_rate(mine.limit_fails_at)} have to come through one such fleet")
    if (
        mine.wait_p99_ms is not None
        and its.wait_p99_ms is not None
        and its.holds
        and its.wait_p99_ms < mine.wait_p99_ms
    ):
        parts.append(f"where a wait of {duration(mine.wait_p99_ms / 1000)} is too long")
    return f"It turns to {other.label}: {'; or '.join(parts)}." if parts else ""


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:,.2g}/s"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"
