"""Which queue? The figures that decide it, and where the answer turns: numbers and codes, no English."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from queuebench.figures.comparison import Group
from queuebench.figures.limits import RateLimit, Why
from queuebench.figures.records import KEPT_SHARE, Scope, Summary, Verdict
from queuebench.measuring.records import Stage

# Of two prices so close to each other neither is the cheaper one.
SAME_PRICE = 0.02
# A queue in which messages wait for longer (p99), or a Celery in which tasks do, does not hold the rate.
LONGEST_WAIT_MS = 1000.0


class Reason(StrEnum):
    """What decides it."""

    ONLY_ONE = "only_one"  # the others did not hold the rate, or lost messages
    PRICE = "price"  # all hold it, and this one costs less
    SPEED = "speed"  # all hold it at the same price, and this one is faster
    NONE = "none"  # none holds it: no answer


class Side(Struct, frozen=True):
    """One queue at the rate of the question; `None` is what was not measured."""

    queue: str
    label: str
    holds: bool
    per_second: float  # at which it was measured; 0: in a flood
    wait_p99_ms: float | None
    end_to_end_p99_ms: float | None
    usd_per_month: float
    limit: float | None  # messages a second of the queue with its subscribers, that held
    limit_fails_at: float | None
    limit_proven: bool


class Answer(Struct, frozen=True):
    """Which queue, and why; and where it would be another."""

    reason: Reason
    chosen: Side | None
    others: list[Side]
    messages_per_day: float
    per_second: float
    turns_at_messages_per_day: int | None  # where another one becomes cheaper; None: nowhere, or not known
    turns_upwards: bool  # from there on, or else below it

    @property
    def sides(self) -> list[Side]:
        """All of them, the chosen one first."""
        return [*([self.chosen] if self.chosen else []), *self.others]


def of_runs(groups: Sequence[Group], limits: Sequence[RateLimit] = ()) -> Answer | None:
    """Return the answer that some whole runs give; None: they are not of several queues.

    Of each queue the runs that were paced decide, at the highest rate that all of them were asked for; where
    none was, its flood does.
    """
    whole = [group for group in groups if group.middle.scope is Scope.WHOLE]
    labels = list(dict.fromkeys(group.middle.label for group in whole))
    if len(labels) < 2:
        return None
    rates = [{g.middle.load.asked for g in whole if g.middle.label == label} - {0.0} for label in labels]
    common = set.intersection(*rates)
    rate = max(common, default=0.0)
    sides: list[Side] = []
    break_evens: list[int | None] = []
    for label in labels:
        its = [group for group in whole if group.middle.label == label]
        chosen = next((group for group in its if group.middle.load.asked == rate), None)
        if chosen is None:
            return None
        break_evens.append(chosen.middle.cost.break_even_messages_per_day)
        sides.append(_side(chosen, rate, [limit for limit in limits if limit.label == label]))
    a_day = whole[0].middle.cost.messages_per_day
    holding = [side for side in sides if side.holds]
    if not holding:
        return Answer(Reason.NONE, None, sides, a_day, rate, None, True)
    by_price = sorted(holding, key=lambda side: side.usd_per_month)
    cheapest = by_price[0]
    reason = Reason.PRICE if len(holding) > 1 else Reason.ONLY_ONE
    if len(holding) > 1:
        alike = [
            side
            for side in by_price
            if side.usd_per_month - cheapest.usd_per_month <= SAME_PRICE * max(cheapest.usd_per_month, 0.01)
        ]
        if len(alike) > 1:
            reason, cheapest = Reason.SPEED, min(alike, key=lambda side: side.wait_p99_ms or 0.0)
    others = [side for side in sides if side is not cheapest]
    # The volume at which the calls, made as at this rate, cost what a Redis does: SQS is cheaper below it.
    turns = next((volume for volume in break_evens if volume is not None), None)
    return Answer(
        reason,
        cheapest,
        others,
        a_day,
        rate,
        turns if reason is Reason.PRICE else None,
        cheapest.queue == "SQS",
    )


def _holds(run: Summary) -> bool:
    """Tell whether a paced run kept up: all was sent in time, and waited for at most a second."""
    waits = run.latency(Stage.QUEUE_WAIT).p99, run.latency(Stage.CELERY_WAIT).p99
    return run.load.behind_share <= KEPT_SHARE and max(waits) <= LONGEST_WAIT_MS


def _side(group: Group, rate: float, limits: Sequence[RateLimit]) -> Side:
    run = group.middle
    wait, whole = run.latency(Stage.QUEUE_WAIT), run.latency(Stage.END_TO_END)
    limit = next((found for found in limits if found.scope is Scope.QUEUE and not found.varied), None)
    valid = all(one.verdict is Verdict.VALID for one in group.counted)
    return Side(
        queue=run.queue,
        label=run.label,
        holds=valid and (not rate or _holds(run)),
        per_second=rate,
        wait_p99_ms=wait.p99 if wait.count else None,
        end_to_end_p99_ms=whole.p99 if whole.count else None,
        usd_per_month=run.cost.queue_usd_per_month,
        limit=limit.rate if limit is not None else None,
        limit_fails_at=limit.fails_at if limit is not None else None,
        limit_proven=limit is not None and limit.why is Why.PROVEN,
    )
