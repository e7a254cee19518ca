"""The age of a queue: how long what was taken from it last had waited, second by second."""

from __future__ import annotations

from queuebench.measuring.histogram import Histogram

QUANTILE = 0.99  # of what was taken since the look before, over all lists or queues


class Age:
    """The age of one place that messages wait in, from the totals that processes report.

    While nothing is taken from it and something waits, it goes on growing with the clock.
    """

    def __init__(self) -> None:
        self._seen = Histogram()
        self._age: float | None = None
        self._at = 0.0

    def look(self, waits: Histogram, waiting: int | None, now: float) -> float | None:
        """Return the age in seconds; None: nothing was taken yet, or nothing waits and nothing was taken.

        Args:
            waits: how long everything that was taken so far had waited, of all processes.
            waiting: how much waits now; None: not known.
            now: Unix seconds.
        """
        taken = _since(self._seen, waits)
        elapsed, self._at = max(0.0, now - self._at), now
        self._seen = waits
        if taken.count:
            self._age = taken.quantile(QUANTILE) / 1000.0
        elif not waiting:
            self._age = None
        elif self._age is not None:
            self._age += elapsed
        return self._age


def _since(before: Histogram, after: Histogram) -> Histogram:
    """Return what came since; totals of a process that was killed are smaller than they were."""
    new = Histogram()
    for bucket, count in after.buckets.items():
        if (more := count - before.buckets.get(bucket, 0)) > 0:
            new.buckets[bucket] = more
    new.negative = max(0, after.negative - before.negative)
    new.max_ms = after.max_ms
    return new
