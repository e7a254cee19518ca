"""When each message is meant to be sent, whatever became of those before it: an open loop.

Times are seconds since a publisher's start. There is no clock here: whoever asks says how late it is.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, count

from queuebench.errors import SettingsError
from queuebench.load import profile
from queuebench.load.curve import Curve, steady
from queuebench.settings import Settings

AT_ONCE = 1024  # times that are worked out together
# Of messages that lie closer together than this, several are sent by one call: a call costs about as much as
# making and sending 200 messages.
CLOSE_SECONDS = 0.0025
FEW = 2  # that are sent by a call each, however close they lie
# What was due before the end is sent up to so late after it; what is left then was not sent in time.
LATE_SHARE, LEAST_LATE_SECONDS = 0.005, 0.02
# Of what is due so much less is late.
ALLOWED_SECONDS = 0.005
# By how much calls move apart where one was throttled, and close up with each that was not: about one of
# 25 meets a quota then, which is how it is known.
WIDER, CLOSER, LEAST_GAP_SECONDS = 1.1, 0.996, 0.0005
# A pause in Poisson arrivals that is longer than so many average ones does not happen.
LONGEST_OF_POISSON = 40.0

Chance = Callable[[], float]  # 0 ≤ it < 1


class Schedule(ABC):
    """What is due when; each message is given out once. Used by one thread at a time."""

    @abstractmethod
    def due(self, now: float, most: int) -> list[float]:
        """Take the next messages that are due by `now`, at most so many, and return their intended times."""

    @abstractmethod
    def next_at(self, now: float, most: int) -> float:
        """Return when to look again for at most so many messages; infinity: there are no more."""

    @abstractmethod
    def rest(self, now: float) -> int:
        """Take all that is late at `now` and return how much that is: it is not sent any more."""


class Flood(Schedule):
    """Everything is due at once, until `end`."""

    def __init__(self, end: float = math.inf) -> None:
        self._end = end

    def due(self, now: float, most: int) -> list[float]:
        return [now] * most if now < self._end else []

    def next_at(self, now: float, most: int) -> float:
        return now if now < self._end else math.inf

    def rest(self, now: float) -> int:
        return 0


class Paced(Schedule):
    """Messages at times that are worked out ahead, up to `end`."""

    def __init__(self, times: Iterator[list[float]], end: float = math.inf) -> None:
        self._more, self._end = times, end
        self._late = end + max(LEAST_LATE_SECONDS, LATE_SHARE * end)
        self._ahead: list[float] = []
        self._at = 0

    def due(self, now: float, most: int) -> list[float]:
        if now >= self._late:
            return []
        self._look_ahead(most)
        end = bisect_right(self._ahead, now, self._at, min(self._at + most, len(self._ahead)))
        taken, self._at = self._ahead[self._at : end], end
        return taken

    def next_at(self, now: float, most: int) -> float:
        self._look_ahead(most)
        if self._at == len(self._ahead) or now >= self._late:
            return math.inf
        first = self._ahead[self._at]
        end = bisect_right(
            self._ahead, first + CLOSE_SECONDS, self._at, min(self._at + most, len(self._ahead))
        )
        return self._ahead[end - 1] if end - self._at > FEW else first

    def rest(self, now: float) -> int:
        found = 0
        while True:
            self._look_ahead(AT_ONCE)
            end = bisect_right(self._ahead, now - ALLOWED_SECONDS, self._at)
            found, self._at = found + end - self._at, end
            if end < len(self._ahead) or not self._ahead:
                return found

    def _look_ahead(self, most: int) -> None:
        while len(self._ahead) - self._at < most:
            times = next(self._more, [])
            if times and times[-1] >= self._end:
                times, self._more = times[: bisect_left(times, self._end)], iter(())
            if not times and self._at == 0:
                return
            self._ahead, self._at = self._ahead[self._at :] + times, 0
            if not times:
                return


class Spacing:
    """How far apart calls begin. Where a quota throttles them, fewer and fuller calls carry more messages."""

    def __init__(self) -> None:
        self.gap = 0.0
        self.free_at = 0.0  # when the next call may begin

    def begin(self, now: float) -> float:
        """Return when a call may begin that is wanted now; the next one has to wait for longer."""
        begins_at = max(now, self.free_at)
        self.free_at = begins_at + self.gap
        return begins_at

    def end(self, throttled: bool) -> None:
        """Note how a call ended."""
        if throttled:
            self.gap = max(LEAST_GAP_SECONDS, self.gap * WIDER)
        elif self.gap:
            self.gap = self.gap * CLOSER if self.gap > LEAST_GAP_SECONDS else 0.0


def even(curve: Curve) -> Iterator[list[float]]:
    """Yield the times of messages that follow a curve as evenly as can be."""
    for first in count(0, AT_ONCE):
        times = curve.times(range(first, first + AT_ONCE))
        yield times
        if len(times) < AT_ONCE:
            return


def poisson(curve: Curve, chance: Chance = random.random) -> Iterator[list[float]]:
    """Yield the times of messages that come independently of one another, at the curve's rate on average."""
    place = 0.0
    while True:
        steps = [-math.log(1.0 - chance()) for _ in range(AT_ONCE)]
        places = list(accumulate(steps, initial=place))[1:]
        place = places[-1]
        times = curve.times(places)
        yield times
        if len(times) < AT_ONCE:
            return


def pauses(longest: float, chance: Chance = random.random) -> Iterator[list[float]]:
    """Yield the times of messages that each come after a random pause of up to `longest` seconds."""
    at = 0.0
    while True:
        times = list(accumulate((longest * chance() for _ in range(AT_ONCE)), initial=at))[1:]
        at = times[-1]
        yield times


@dataclass(frozen=True)
class Pacing:
    """What one publisher is asked for; without `curve` and `delay` it is a flood."""

    curve: Curve | None = None
    arrivals: str = "even"
    delay: float = 0.0
    seconds: float = math.inf  # after which it ends, whatever is left of the curve
    faster: float = 1.0  # how many times as fast as it was counted a curve goes by

    @property
    def rate(self) -> float:
        """The messages a second that are asked for, the mean of a profile; 0: none is."""
        if self.curve is None:
            return 0.0
        if self.curve.seconds == math.inf:
            return self.curve.stretches[0].first
        return self.curve.messages / self.curve.seconds

    @property
    def ends(self) -> bool:
        """Whether it ends by itself, however many messages were to be sent."""
        return self.seconds < math.inf or (self.curve is not None and self.curve.seconds < math.inf)

    @property
    def expected(self) -> int | None:
        """How many messages are due in all, on average where chance has a part; None: not known."""
        if self.curve is None or self.curve.messages == math.inf:
            return None
        return self.curve.whole_messages

    @property
    def longest_pause(self) -> float:
        """For how many seconds nothing may be due."""
        if self.curve is None:
            return self.delay
        return self.curve.longest_pause * (LONGEST_OF_POISSON if self.arrivals == "poisson" else 1.0)

    def schedule(self) -> Schedule:
        """Return what is due when, from the first message on."""
        if self.delay:
            return Paced(pauses(self.delay), self.seconds)
        if self.curve is None:
            return Flood(self.seconds)
        times = poisson(self.curve) if self.arrivals == "poisson" else even(self.curve)
        return Paced(times, self.curve.seconds)


def of_settings(settings: Settings) -> Pacing:
    """Return what the settings ask of a publisher.

    Raises:
        SettingsError: the profile cannot be used, or all of it is the warm-up.
    """
    seconds, faster = settings.duration or math.inf, 1.0
    curve = steady(settings.rate, seconds) if settings.rate else None
    if settings.profile:
        curve, faster = profile.read(settings.profile).within(seconds)
        if settings.warm_up >= curve.seconds:
            raise SettingsError(
                f"WARM_UP={settings.warm_up:g} takes all {curve.seconds:g} s of PROFILE: nothing is measured"
            )
    return Pacing(curve, settings.arrivals, settings.publisher_delay, seconds, faster)
