"""A run's time series: a line a second on disk, thinned to what a chart can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

MOST_POINTS = 600


class Series:
    """Points in memory, at most `most`: when there are more, every second one is dropped."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most, self._every, self._seen = most, 1, 0
        self._kept: list[Mapping[str, Any]] = []
        self._last: Mapping[str, Any] | None = None

    def add(self, point: Mapping[str, Any]) -> None:
        """Add the newest point."""
        if self._seen % self._every == 0:
            self._kept.append(point)
            if len(self._kept) > self._most:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1
        self._last = point

    def points(self) -> list[Mapping[str, Any]]:
        """Return the points, evenly spaced but for the newest, which is always there."""
        if self._last is None or self._kept[-1] is self._last:
            return list(self._kept)
        return [*self._kept, self._last]


def read(path: Path) -> Series:
    """Return the series that a file keeps; empty where there is none."""
    series = Series()
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    series.add(orjson.loads(line))
    return series


def columns(points: Sequence[Mapping[str, Any]], started_at: float) -> dict[str, Any]:
    """Return a series as a chart takes it: seconds since the start, rates, depths, shares of a core.

    Processes report about once a second, and so do the points come: a rate is therefore taken over
    the two points on either side, a share of a core over twice as many.
    """
    if points:
        # The first look comes up to a second after the start, when much has happened already.
        nothing: dict[str, Any] = dict.fromkeys(("published", "received", "delivered", "dead_letters"), 0)
        nothing |= {"cpu_seconds": {}, "server_cpu_seconds": {}, "queue": {}, "celery": {}}
        points = [{**nothing, "at": started_at}, *points]
    at = [round(point["at"] - started_at, 2) for point in points]
    roles = sorted({role for point in points for role in point["cpu_seconds"]})
    servers = sorted({name for point in points for name in point["server_cpu_seconds"]})
    totals = {name: [point[name] for point in points] for name in ("published", "received", "delivered")}
    return {
        "t": at,
        "rates": {name: slopes(at, values, 1) for name, values in totals.items()},
        "depths": {
            **{
                place: [None if point[place] is None else sum(point[place].values()) for point in points]
                for place in ("queue", "celery")
            },
            "dead_letters": [point["dead_letters"] for point in points],
        },
        "cpu": {role: slopes(at, [p["cpu_seconds"].get(role, 0.0) for p in points], 2) for role in roles}
        | {
            f"{name} (server)": slopes(at, [p["server_cpu_seconds"].get(name, 0.0) for p in points], 2)
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
