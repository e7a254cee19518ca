"""Latencies as counts in buckets that grow by a constant factor, so that merging is exact.

The idea is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019): a quantile is off by at most (GAMMA - 1) / (GAMMA + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import ceil, log

from queuebench.measuring.records import Latencies

GAMMA = 1.01  # quantiles are off by at most 0.5 %
SMALLEST_MS = 0.001
MOST_MS = 366 * 86_400_000.0  # a year of waiting is plausible; more is a wrong clock or a wrong message
_LOG_GAMMA = math.log(GAMMA)
_COARSE = 12  # buckets joined for a chart


class Histogram:
    """Counts of durations in milliseconds; negative ones (clocks that disagree) are counted apart.

    Bounded: at most 3,200 buckets, from a microsecond to a year.
    """

    __slots__ = ("buckets", "lowest_ms", "max_ms", "negative", "total_ns")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.negative = 0
        self.lowest_ms = 0.0  # below 0 where there were negative ones
        self.max_ms = 0.0
        self.total_ns = 0  # a whole number, so that merging is exact; without the negative ones

    @property
    def count(self) -> int:
        """How many durations were recorded, negative ones included."""
        return sum(self.buckets.values()) + self.negative

    @property
    def mean_ms(self) -> float:
        """The mean; negative ones count as 0."""
        return self.total_ns / 1e6 / self.count if self.count else 0.0

    def record(self, seconds: float, count: int = 1) -> int:
        """Add `count` durations of so many seconds; return how many were left out as not plausible."""
        milliseconds = seconds * 1000.0
        if not -MOST_MS <= milliseconds <= MOST_MS:
            return count
        if milliseconds < 0:
            self.negative += count
            self.lowest_ms = min(self.lowest_ms, milliseconds)
            return 0
        self.total_ns += int(milliseconds * 1e6) * count
        if milliseconds > self.max_ms:
            self.max_ms = milliseconds
        bucket = math.ceil(math.log(milliseconds) / _LOG_GAMMA) if milliseconds > SMALLEST_MS else _LOWEST
        self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        return 0

    def record_each(self, durations: Sequence[float]) -> int:
        """Add one duration of each so many seconds, in half the time that one by one takes."""
        if not durations:
            return 0
        total = sum(durations)
        # A nan makes the sum one, and nothing else is that far from every comparison.
        if not (
            total <= MOST_MS and min(durations) * 1000.0 > SMALLEST_MS and max(durations) * 1000.0 <= MOST_MS
        ):
            return sum(self.record(seconds) for seconds in durations)
        self.total_ns += int(total * 1e9)
        self.max_ms = max(self.max_ms, max(durations) * 1000.0)
        buckets = self.buckets
        for seconds in durations:
            bucket = ceil(log(seconds * 1000.0) / _LOG_GAMMA)
            buckets[bucket] = buckets.get(bucket, 0) + 1
        return 0

    def merge(self, other: Histogram) -> None:
        """Add everything that another one counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.negative += other.negative
        self.total_ns += other.total_ns
        self.lowest_ms = min(self.lowest_ms, other.lowest_ms)
        self.max_ms = max(self.max_ms, other.max_ms)

    def quantile(self, share: float) -> float:
        """Return the duration in ms that `share` (0 to 1) of all do not exceed; negative ones count as 0."""
        wanted = max(1, math.ceil(share * self.count))
        seen = self.negative
        if seen >= wanted or not self.buckets:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(middle_ms(bucket), self.max_ms)
        return self.max_ms

    def coarse(self) -> list[tuple[float, int]]:
        """Return (upper end in ms, count) of non-empty buckets about 12 % wide: enough for a chart."""
        wide: dict[int, int] = {}
        for bucket, count in self.buckets.items():
            end = -(-bucket // _COARSE) * _COARSE
            wide[end] = wide.get(end, 0) + count
        return [(round(math.exp(end * _LOG_GAMMA), 4), wide[end]) for end in sorted(wide)]

    def frozen(self) -> Latencies:
        """Return a copy that nothing changes any more."""
        return Latencies(dict(self.buckets), self.negative, self.total_ns, self.lowest_ms, self.max_ms)

    @classmethod
    def of(cls, latencies: Latencies) -> Histogram:
        """Return the histogram that `frozen` described."""
        histogram = cls()
        histogram.buckets, histogram.negative = dict(latencies.buckets), latencies.negative
        histogram.total_ns = latencies.total_ns
        histogram.lowest_ms, histogram.max_ms = latencies.lowest_ms, latencies.max_ms
        return histogram


def middle_ms(bucket: int) -> float:
    """Return the duration that stands for a bucket: off by the same share from both its ends."""
    return 2.0 * math.exp(bucket * _LOG_GAMMA) / (GAMMA + 1.0)


_LOWEST = math.ceil(math.log(SMALLEST_MS) / _LOG_GAMMA)
