"""The search for the highest rate that holds: bracketing, bisection, confirmation and proof.

A pure function of what was seen: it asks for a probe, is told how it went, and ends with what it found.
It knows neither time nor queue, and takes into account that a short look may be wrong: what was found in
short windows is confirmed in long ones, and what the long ones say replaces what the short ones said.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from queuebench.figures.limits import Kind, Why

SHORT_SECONDS, LONG_SECONDS, PROOF_SECONDS = 5.0, 20.0, 60.0
FACTOR = 4.0  # by which the rate grows until it does not hold
PRECISION = 1.02  # the bracket that bisection ends with, upper by lower end
MORE = 1.05  # so much more than the rate that was found must not hold
WIDEST = 1.035  # the bracket that may be left in the end
STEP_DOWN = 0.98  # after a long look has shown that a rate does not hold after all
MOST_SHORT, MOST_LONG, MOST_PROOFS = 25, 14, 3
MOST_PROBES = 2 * MOST_SHORT + MOST_LONG + MOST_PROOFS
CAP_KEPT = 0.97  # of what a publisher reached at most, which it surely keeps
LOWEST_RATE = 0.01


class Probe(NamedTuple):
    """A rate to be held for a while."""

    rate: float  # messages a second
    kind: Kind

    @property
    def seconds(self) -> float:
        """How long it is to be held."""
        return {Kind.SHORT: SHORT_SECONDS, Kind.LONG: LONG_SECONDS, Kind.PROOF: PROOF_SECONDS}[self.kind]


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

    held: dict[float, float] = field(default_factory=dict)  # rate: seconds that were looked at
    failed: dict[float, float] = field(default_factory=dict)

    def add(self, rate: float, seconds: float, held: bool) -> None:
        mine, others = (self.held, self.failed) if held else (self.failed, self.held)
        for other, looked in list(others.items()):
            contradicts = other <= rate if held else other >= rate
            if contradicts and looked <= seconds:
                del others[other]
        # A shorter look changes nothing that a longer one has shown.
        if not any((other <= rate if held else other >= rate) for other in others):
            mine[rate] = max(seconds, mine.get(rate, 0.0))

    def fails_above(self, rate: float) -> bool:
        """Tell whether a long look has shown that `MORE` of a rate does not hold."""
        most = rate * MORE * (1.0 + 1e-9)
        return any(other <= most and looked >= LONG_SECONDS for other, looked in self.failed.items())

    @property
    def low(self) -> float:
        return max(self.held, default=0.0)

    @property
    def high(self) -> float:
        return min(self.failed, default=math.inf)

    def found(self, why: Why) -> Found:
        return Found(self.low or None, None if math.isinf(self.high) else self.high, why)


Search = Generator[Probe, Seen, Found]


def search(first: float, proof: bool = True, precision: float = PRECISION) -> Search:
    """Look for the highest rate that holds, beginning with `first` messages a second.

    Yields each probe, is sent how it went, and returns what was found. It ends after at most `MOST_PROBES`.

    Args:
        first: where to begin; any rate will do, a good guess saves time.
        proof: whether the rate is held again for a minute in the end.
        precision: upper by lower end of the bracket that bisection ends with.
    """
    bracket = _Bracket()
    ended = yield from _bisect(bracket, first, precision)
    longs = proofs = 0
    while ended is None:
        if not bracket.low:
            return bracket.found(Why.UNSURE)
        # The candidate, for long enough to tell; and somewhat more, which must not hold.
        candidate = bracket.low
        if bracket.held[candidate] < LONG_SECONDS:
            seen = yield Probe(candidate, Kind.LONG)
            longs += 1
            if ended := _ended(bracket, seen, candidate, LONG_SECONDS):
                break
            if seen.held is False:
                bracket.held = {rate: at for rate, at in bracket.held.items() if at >= LONG_SECONDS}
                lower = max(bracket.low, candidate * STEP_DOWN ** min(longs, 5))
                if lower not in bracket.held:
                    bracket.held[lower] = 0.0  # to be looked at next
        elif not bracket.fails_above(candidate):
            more = candidate * MORE
            seen = yield Probe(more, Kind.LONG)
            longs += 1
            if ended := _ended(bracket, seen, more, LONG_SECONDS):
                break
        elif bracket.high > candidate * WIDEST:
            middle = math.sqrt(candidate * bracket.high)
            seen = yield Probe(middle, Kind.LONG)
            longs += 1
            if ended := _ended(bracket, seen, middle, LONG_SECONDS):
                break
        elif not proof or bracket.held[candidate] >= PROOF_SECONDS:
            return bracket.found(Why.PROVEN if proof else Why.CONFIRMED)
        else:
            seen = yield Probe(candidate, Kind.PROOF)
            proofs += 1
            if ended := _ended(bracket, seen, candidate, PROOF_SECONDS):
                break
            if seen.held is False:
                bracket.held[candidate * STEP_DOWN] = 0.0
                if proofs >= MOST_PROOFS:
                    ended = Why.UNSURE
        if longs >= MOST_LONG:
            ended = ended or Why.UNSURE
    bracket.held = {rate: looked for rate, looked in bracket.held.items() if looked}
    assert ended is not None
    return bracket.found(ended)


def _bisect(bracket: _Bracket, first: float, precision: float) -> Generator[Probe, Seen, Why | None]:
    """Narrow the bracket in short windows; return why the search ends already, or None."""
    rate, carried, cap = first, None, math.inf
    for _ in range(MOST_SHORT):
        seen = yield Probe(rate, Kind.SHORT)
        if seen.held is None and not seen.stop and not seen.capped:
            seen = yield Probe(rate, Kind.LONG)
        if seen.capped and not seen.stop and seen.carried:
            cap = min(cap, seen.carried * CAP_KEPT, rate * CAP_KEPT)
            if bracket.low >= cap * 0.999 or cap < LOWEST_RATE:
                return Why.CAPPED
            rate = cap
            continue
        if ended := _ended(bracket, seen, rate, SHORT_SECONDS):
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


def _ended(bracket: _Bracket, seen: Seen, rate: float, seconds: float) -> Why | None:
    """Take what was seen; return why the search ends with it, or None."""
    if seen.held is not None:
        bracket.add(rate, seconds, seen.held)
    if seen.capped:
        return Why.CAPPED
    if seen.stop:
        return Why.TIME
    return Why.UNSURE if seen.held is None else None
