"""Whether a queue held a rate: its age does not grow, nothing was lost, and what was required is met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from queuebench.figures import requirement
from queuebench.figures.bottleneck import was_throttled
from queuebench.figures.records import KEPT_SHARE, Scope, Summary, Verdict
from queuebench.figures.requirement import Requirement
from queuebench.measuring.records import Role
from queuebench.measuring.series import Point

LEAST_POINTS = 4
# Who publishes x % more than is carried sees the age grow by x/100 seconds a second. Less than this is none.
LEAST_SLOPE = 0.005
# An interval that reaches this far above 0 cannot tell whether the rate holds.
WIDEST_SLOPE = 0.05
# The rate that the publishers were asked for, as the run knows it, by the one that is judged.
RATE_KEPT = 0.98
# Two-sided 95 % quantiles of Student's t by degrees of freedom, 1 to 30: NIST/SEMATECH e-Handbook, 1.3.6.7.2
_T_TABLE = """
12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145 2.131
2.120 2.110 2.101 2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042
"""
_T = tuple(map(float, _T_TABLE.split()))
_T_BEYOND = 1.96


class Trend(NamedTuple):
    """How something grows with time, with its 95 % confidence interval, by least squares."""

    slope: float
    low: float
    high: float


class Sign(StrEnum):
    """What decided whether a rate held."""

    STEADY = "steady"
    QUEUE_GROWS = "queue_grows"  # the age of the queue under test
    CELERY_GROWS = "celery_grows"  # how long tasks wait in Celery
    REQUIRED = "required"  # a requirement is not met
    THROTTLED = "throttled"  # the queue's quota did not take what the publisher had
    PUBLISHER = "publisher"  # the publisher did not keep the rate
    NOT_VALID = "not_valid"
    LOST = "lost"
    UNSURE = "unsure"  # too few points, or ages that scatter too much


class Judgement(NamedTuple):
    """Whether a rate held; `held` None: it cannot be told."""

    held: bool | None
    sign: Sign
    age: Trend | None  # of what decided, in seconds a second
    carried: float | None  # messages a second that came through, where the rate did not hold


def trend(points: Sequence[tuple[float, float]]) -> Trend | None:
    """Return how y grows with x, of (x, y) points; None: there are too few."""
    n = len(points)
    if n < LEAST_POINTS:
        return None
    mean_x, mean_y = (sum(point[axis] for point in points) / n for axis in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread <= 0.0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    within = (_T[n - 3] if n - 2 <= len(_T) else _T_BEYOND) * math.sqrt(rest / (n - 2) / spread)
    return Trend(slope, slope - within, slope + within)


def judge(
    run: Summary,
    points: Sequence[Point],
    rate: float,
    seconds: float,
    requirements: Sequence[Requirement] = (),
) -> Judgement:
    """Return whether a run held a rate.

    Args:
        run: the run, which is over.
        points: its series.
        rate: messages a second that were to be published.
        seconds: how long before the end of publishing what is looked at begins: what is before settles in.
        requirements: what the figures must be beside.
    """
    window = _window(points, seconds)
    if run.verdict is Verdict.LOST or run.counts.lost:
        return Judgement(False, Sign.LOST, None, None)
    ages = {Sign.QUEUE_GROWS: [(point.at, point.queue_age) for point in window]}
    if run.scope is Scope.WHOLE:
        ages[Sign.CELERY_GROWS] = [(point.at, point.celery_age) for point in window]
    trends = {
        sign: found
        for sign, several in ages.items()
        if (found := trend([(at, age) for at, age in several if age is not None])) is not None
    }
    for sign, found in trends.items():
        if found.low > 0.0 and found.slope > LEAST_SLOPE:
            return Judgement(False, sign, found, _carried(window, sign))
    # That some were sent late, and so waited for longer, is part of their wait.
    if run.load.behind_share > KEPT_SHARE or run.load.asked < rate * RATE_KEPT:
        if was_throttled(run, Role.PUBLISHER):
            return Judgement(False, Sign.THROTTLED, None, run.rates.publish)
        return Judgement(None, Sign.PUBLISHER, None, run.rates.publish)
    if run.verdict is not Verdict.VALID:
        return Judgement(None, Sign.NOT_VALID, None, None)
    age = trends.get(Sign.QUEUE_GROWS)
    widest = max(trends.values(), key=lambda found: found.high, default=None)
    if len(trends) < len(ages) or widest is None or widest.high > WIDEST_SLOPE:
        return Judgement(None, Sign.UNSURE, widest, None)
    if not all(outcome.met for outcome in requirement.check(requirements, run)):
        return Judgement(False, Sign.REQUIRED, age, None)
    return Judgement(True, Sign.STEADY, age, None)


def _window(points: Sequence[Point], seconds: float) -> list[Point]:
    """Return the points of the last seconds of publishing."""
    published = points[-1].published if points else 0
    ended_at = next((point.at for point in points if point.published == published), 0.0)
    return [point for point in points if ended_at - seconds < point.at <= ended_at]


def _carried(window: Sequence[Point], sign: Sign) -> float | None:
    """Return how many messages a second came through, by the points of the window."""
    if len(window) < 2:
        return None
    first, last = window[0], window[-1]
    seconds = last.at - first.at
    count = last.received - first.received if sign is Sign.QUEUE_GROWS else last.pushed - first.pushed
    return count / seconds if seconds > 0.0 and count > 0 else None
