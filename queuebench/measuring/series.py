"""A run's time series: a line a second on disk, thinned to what a chart can show."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from queuebench.measuring.records import decoder_of

MOST_POINTS = 600
MOST_READ_BYTES = 256 * 2**20  # a week of seconds
LONGEST_LINE = 65_536


class Held(Struct, frozen=True):
    """What a place holds: messages that wait, and those in flight."""

    waiting: int = 0
    in_flight: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.waiting + self.in_flight


class Point(Struct, frozen=True):
    """How a run stood at a moment; counts are totals, `None` is what nobody could tell."""

    at: float  # Unix seconds
    published: int = 0
    received: int = 0
    handed_over: int = 0
    pushed: int = 0
    delivered: int = 0
    dead_letters: int = 0
    queue: Held | None = None
    celery: Held | None = None
    queue_age: float | None = None  # seconds that what was received last had waited: `Age`
    celery_age: float | None = None  # … and what a worker has begun last
    cpu_seconds: dict[str, float] = {}  # by role
    server_cpu_seconds: dict[str, float] = {}
    memory_bytes: dict[str, int] = {}  # by server


class Series:
    """Points in memory, at most `most`: when there are more, every second one is dropped."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most, self._every, self._seen = most, 1, 0
        self._kept: list[Point] = []
        self._last: Point | None = None

    def add(self, point: Point) -> None:
        """Add the newest point."""
        if self._seen % self._every == 0:
            self._kept.append(point)
            if len(self._kept) > self._most:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1
        self._last = point

    def points(self) -> list[Point]:
        """Return the points, evenly spaced but for the newest, which is always there."""
        if self._last is None or self._kept[-1] is self._last:
            return list(self._kept)
        return [*self._kept, self._last]


def read(path: Path) -> Series:
    """Return the series that a file keeps, without lines that are none; empty where it cannot be read.

    Takes memory for `MOST_POINTS` points, and reads at most `MOST_READ_BYTES`.
    """
    series, decoder = Series(), decoder_of(Point)
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as lines:
                while lines.tell() < MOST_READ_BYTES and (line := lines.readline(LONGEST_LINE)):
                    # Cut short by a crash, or by whoever edited it: one second less.
                    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                        series.add(decoder.decode(line))
    return series


def columns(points: Sequence[Point], started_at: float) -> dict[str, Any]:
    """Return a series as a chart takes it: seconds since the start, rates, depths, shares of a core.

    Processes report about once a second, and so do the points come: a rate is therefore taken over
    the two points on either side, a share of a core over twice as many.
    """
    if points:
        # The first look comes up to a second after the start, when much has happened already.
        points = [Point(started_at, queue=Held(), celery=Held()), *points]
    at = [round(point.at - started_at, 2) for point in points]
    roles = sorted({role for point in points for role in point.cpu_seconds})
    servers = sorted({name for point in points for name in point.server_cpu_seconds})
    totals = {
        "published": [float(point.published) for point in points],
        "received": [float(point.received) for point in points],
        "delivered": [float(point.delivered) for point in points],
    }
    return {
        "t": at,
        "rates": {name: slopes(at, values, 1) for name, values in totals.items()},
        "depths": {
            "queue": [None if point.queue is None else point.queue.total for point in points],
            "celery": [None if point.celery is None else point.celery.total for point in points],
            "dead_letters": [point.dead_letters for point in points],
        },
        "cpu": {role: slopes(at, [p.cpu_seconds.get(role, 0.0) for p in points], 2) for role in roles}
        | {
            f"{name} (server)": slopes(at, [p.server_cpu_seconds.get(name, 0.0) for p in points], 2)
            for name in servers
        },
    }


def slopes(at: list[float], values: list[float], reach: int) -> list[float]:
    """Return the growth per second around each point, over `reach` points before and after it."""
    found = []
    for position in range(len(values)):
        first, last = max(0, position - reach), min(len(values) - 1, position + reach)
        seconds = at[last] - at[first]
        # What a killed process had counted since its last report is missing after it.
        found.append(round(max(0.0, values[last] - values[first]) / seconds, 4) if seconds > 0 else 0.0)
    return found
