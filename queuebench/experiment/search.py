"""The search for the highest rate that holds: bracketing, bisection, confirmation and proof.

A pure function of what was seen: it asks for a probe, is told how it went, and ends with what it found.
It knows neither time nor queue, and takes into account that a short look may be wrong: what was found in
short windows is confirmed in long ones, and what the long ones say replaces what the short ones said.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from queuebench.figures.limits import Kind, Why

# How long a rate is held, by what for.
SECONDS: Mapping[Kind, float] = {Kind.SHORT: 5.0, Kind.LONG: 20.0, Kind.PROOF: 60.0}
FACTOR = 4.0  # by which the rate grows until it does not hold
PRECISION = 1.02  # the bracket that bisection ends with, upper by lower end
MORE = 1.05  # so much more than the rate that was found must not hold
WIDEST = 1.035  # the bracket that may be left in the end
STEP_DOWN = 0.98  # after a long look has shown that a rate does not hold after all
MOST_SHORT, MOST_LONG, MOST_PROOFS = 25, 14, 4
MOST_PROBES = 3 * MOST_SHORT + 2 * MOST_LONG + MOST_PROOFS
CAP_KEPT = 0.97  # of what a publisher reached at most, which it surely keeps
LOWEST_RATE = 0.01


class Probe(NamedTuple):
    """A rate to be held for a while."""

    rate: float  # messages a second
    kind: Kind
    seconds: float


class Seen(NamedTuple):
    """How a probe went."""

    held: bool | None  # None: it cannot be told
    carried: float | None = None  # messages a second that came through, where it did not hold
    capped: bool = False  # the publisher could not make the rate, and reached `carried`
    stop: bool = False  # no time for another probe


class Found(NamedTuple):
    """What a search found: the highest rate that held, and the lowest above it that did not."""

    rate: float | None  # None: none was seen to hold
    fails_at: float | None
    why: Why


@dataclass
class _Bracket:
    """What held and what did not, by rate; a longer look replaces shorter ones that contradict it."""

    held: dict[float, int] = field(default_factory=dict)  # rate: the longest look, 0 for none
    failed: dict[float, int] = field(default_factory=dict)

    def add(self, rate: float, kind: Kind, held: bool) -> None:
        look = LOOKS[kind]
        mine, others = (self.held, self.failed) if held else (self.failed, self.held)
        for other, looked in list(others.items()):
            contradicts = other <= rate if held else other >= rate
            if contradicts and looked <= look:
                del others[other]
        # A shorter look changes nothing that a longer one has shown.
        if not any((other <= rate if held else other >= rate) for other in others):
            mine[rate] = max(look, mine.get(rate, 0))

    def fails_above(self, rate: float) -> bool:
        """Tell whether a long look has shown that `MORE` of a rate does not hold."""
        most = rate * MORE * (1.0 + 1e-9)
        return any(other <= most and looked >= LOOKS[Kind.LONG] for other, looked in self.failed.items())

    def forget_short_looks(self) -> None:
        """Forget which rates held in short looks alone."""
        self.held = {rate: look for rate, look in self.held.items() if look >= LOOKS[Kind.LONG]}

    @property
    def low(self) -> float:
        return max(self.held, default=0.0)

    @property
    def high(self) -> float:
        return min(self.failed, default=math.inf)

    def found(self, why: Why) -> Found:
        return Found(self.low or None, None if math.isinf(self.high) else self.high, why)


LOOKS = {kind: number for number, kind in enumerate(Kind, 1)}

Search = Generator[Probe, Seen, Found]


def search(
    first: float,
    proof: bool = True,
    precision: float = PRECISION,
    seconds: Mapping[Kind, float] = SECONDS,
) -> Search:
    """Look for the highest rate that holds, beginning with `first` messages a second.

    Yields each probe, is sent how it went, and returns what was found. It ends after at most `MOST_PROBES`.

    Args:
        first: where to begin; any rate will do, a good guess saves time.
        proof: whether the rate is held again for a minute in the end.
        precision: upper by lower end of the bracket that bisection ends with.
        seconds: how long a rate is held, by what for.
    """
    bracket = _Bracket()
    ended = yield from _bisect(bracket, first, precision, seconds)
    longs = proofs = 0
    while ended is None:
        if not bracket.low:
            return bracket.found(Why.UNSURE)
        # The candidate, for long enough to tell; and somewhat more, which must not hold.
        candidate = bracket.low
        if bracket.held[candidate] < LOOKS[Kind.LONG]:
            rate, kind = candidate, Kind.LONG
        elif not bracket.fails_above(candidate):
            rate, kind = candidate * MORE, Kind.LONG
        elif bracket.high > candidate * WIDEST:
            rate, kind = math.sqrt(candidate * bracket.high), Kind.LONG
        elif not proof or bracket.held[candidate] >= LOOKS[Kind.PROOF]:
            return bracket.found(Why.PROVEN if proof else Why.CONFIRMED)
        else:
            rate, kind = candidate, Kind.PROOF
        longs, proofs = longs + (kind is Kind.LONG), proofs + (kind is Kind.PROOF)
        seen = yield from _look(bracket, rate, kind, seconds)
        ended = _ended(seen)
        if seen.held is False and rate == candidate:
            # What shorter looks said of less may be as wrong: a little less is looked at next.
            bracket.held = {
                lower: looked for lower, looked in bracket.held.items() if looked >= LOOKS[Kind.LONG]
            }
            bracket.held.setdefault(max(bracket.low, candidate * STEP_DOWN ** min(longs, 5)), 0)
        if longs >= MOST_LONG or proofs >= MOST_PROOFS:
            ended = ended or Why.UNSURE
    bracket.held = {rate: looked for rate, looked in bracket.held.items() if looked}
    return bracket.found(ended)


def _bisect(
    bracket: _Bracket, first: float, precision: float, seconds: Mapping[Kind, float]
) -> Generator[Probe, Seen, Why | None]:
    """Narrow the bracket in short windows; return why the search ends already, or None."""
    rate, carried, cap = first, None, math.inf
    for _ in range(MOST_SHORT):
        seen = yield from _look(bracket, rate, Kind.SHORT, seconds)
        if seen.capped and not seen.stop and seen.carried:
            cap = min(cap, seen.carried * CAP_KEPT, rate * CAP_KEPT)
            if bracket.low >= cap * 0.999 or cap < LOWEST_RATE:
                return Why.CAPPED
            rate = cap
            continue
        if ended := _ended(seen):
            return ended
        if bracket.low >= cap * 0.999:
            return Why.CAPPED
        if seen.held is False and seen.carried:
            carried = seen.carried
        low, high = bracket.low, bracket.high
        if low and high <= low * precision:
            return None
        rate = min(cap, _next(low, high, carried, precision))
        if rate < LOWEST_RATE:
            return Why.UNSURE
    return None


def _look(
    bracket: _Bracket, rate: float, kind: Kind, seconds: Mapping[Kind, float]
) -> Generator[Probe, Seen, Seen]:
    """Look at a rate, for longer where that cannot tell, and take what was seen."""
    kinds = list(Kind)
    for longer in kinds[kinds.index(kind) :]:
        seen = yield Probe(rate, longer, seconds[longer])
        if seen.held is not None:
            bracket.add(rate, longer, seen.held)
        if seen.held is not None or seen.capped or seen.stop:
            break
    return seen


def _next(low: float, high: float, carried: float | None, precision: float) -> float:
    """Return the rate to try next: by what came through of too much, else in the middle."""
    if math.isinf(high):
        return low * FACTOR
    if carried is not None:
        # A little less holds if what came through is the ceiling, and a little more does not.
        margin = math.sqrt(precision)
        for guess in (carried / margin, carried * margin):
            if low * 1.001 < guess < high * 0.999 and (not low or guess / low > 1.005):
                return guess
    return math.sqrt(low * high) if low else high / FACTOR


def _ended(seen: Seen) -> Why | None:
    """Return why the search ends with what was seen, or None."""
    if seen.capped:
        return Why.CAPPED
    if seen.stop:
        return Why.TIME
    return Why.UNSURE if seen.held is None else None
