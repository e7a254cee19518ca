"""A rate over time: steps and ramps, how many messages are due by when, and when each is."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

# A message this close to the end belongs to it: sums of decimal fractions are not exact.
_SLACK = 1e-6


class Stretch(NamedTuple):
    """So many seconds during which the rate goes in a straight line from one value to another."""

    seconds: float
    first: float  # messages a second
    last: float

    @property
    def messages(self) -> float:
        """How many messages are due in it."""
        if not self.first and not self.last:
            return 0.0
        return self.seconds * (self.first + self.last) / 2.0

    @property
    def pause(self) -> float:
        """How long it takes to the first message from the slower end on."""
        slower, steeper = min(self.first, self.last), abs(self.last - self.first) / self.seconds
        return 2.0 / (slower + math.sqrt(slower * slower + 2.0 * steeper))


class Curve:
    """Stretches one after the other; the last may be endless.

    A message's place is the number of those due before it, a whole number where arrivals are even.
    """

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self.stretches = list(stretches)
        self._starts = [0.0, *accumulate(stretch.seconds for stretch in stretches)]
        self._places = [0.0, *accumulate(stretch.messages for stretch in stretches)]

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self._starts[-1]

    @property
    def messages(self) -> float:
        """How many messages are due in all of it."""
        return self._places[-1]

    @property
    def whole_messages(self) -> int:
        """How many messages are sent where arrivals are even."""
        return math.ceil(self.messages - _SLACK)

    @property
    def longest_pause(self) -> float:
        """For how many seconds nothing may be due; rather too many than too few."""
        longest = still = 0.0
        for stretch in self.stretches:
            if stretch.messages < 1.0:
                still += stretch.seconds
                longest = max(longest, still)
            else:
                longest = max(longest, still + stretch.pause)
                still = stretch.pause
        return longest

    def cut(self, seconds: float) -> Curve:
        """Return as much of it as fits into so many seconds."""
        kept = []
        for start, stretch in zip(self._starts, self.stretches, strict=False):
            left = seconds - start
            if left <= 0:
                break
            if left < stretch.seconds:
                share = left / stretch.seconds
                last = stretch.first + (stretch.last - stretch.first) * share
                stretch = Stretch(left, stretch.first, last)
            kept.append(stretch)
        return Curve(kept)

    def squeezed(self, seconds: float) -> Curve:
        """Return the same rates in so many seconds: everything goes faster, and fewer messages are due."""
        share = seconds / self.seconds
        return Curve([stretch._replace(seconds=stretch.seconds * share) for stretch in self.stretches])

    def times(self, places: Sequence[float]) -> list[float]:
        """Return when messages are due, in seconds from the start; those beyond the end are left out.

        Args:
            places: in ascending order.
        """
        found: list[float] = []
        done = bisect_left(places, self.messages - _SLACK)
        at = 0
        while at < done:
            number = min(bisect_right(self._places, places[at]) - 1, len(self.stretches) - 1)
            end = min(done, max(at + 1, bisect_left(places, self._places[number + 1], at)))
            found += self._within(number, places[at:end])
            at = end
        return found

    def _within(self, number: int, places: Sequence[float]) -> list[float]:
        stretch, start, before = self.stretches[number], self._starts[number], self._places[number]
        first = stretch.first
        if stretch.last == first:
            return [start + (place - before) / first for place in places]
        # Half of `steeper` × t² + first × t = place - before; this form of the root divides by no 0.
        square, steeper = first * first, 2.0 * (stretch.last - first) / stretch.seconds
        due = [place - before for place in places]
        return [
            start + (2.0 * x / (first + math.sqrt(max(0.0, square + steeper * x))) if x > 0 else 0.0)
            for x in due
        ]


def steady(rate: float, seconds: float = math.inf) -> Curve:
    """Return one rate, for ever or for so many seconds."""
    return Curve([Stretch(seconds, rate, rate)])
