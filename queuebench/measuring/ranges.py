"""Sets of whole numbers, kept as ranges: small where the numbers lie close together."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain


class Ranges:
    """A set of whole numbers as sorted, disjoint ranges; both ends of a range are in it."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        starts, ends = self._starts, self._ends
        for start, end in ranges:
            # Nearly always in order: no search.
            if not ends or start > ends[-1] + 1:
                if end >= start:
                    starts.append(start)
                    ends.append(end)
            elif start < starts[-1]:
                self.add(start, end)
            elif end > ends[-1]:
                ends[-1] = end

    def add(self, start: int, end: int | None = None) -> None:
        """Add one number, or all from `start` to `end`: none where it ends before it starts."""
        end = start if end is None else end
        if end < start:
            return
        first = bisect_left(self._ends, start - 1)
        last = bisect_right(self._starts, end + 1)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def __len__(self) -> int:
        return sum(end - start + 1 for start, end in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __contains__(self, number: int) -> bool:
        position = bisect_left(self._ends, number)
        return position < len(self._starts) and self._starts[position] <= number

    def __or__(self, other: Ranges) -> Ranges:
        """Return the numbers in either."""
        # Not [*self, *other]: a list makes room for as many as `len` says, which are the numbers.
        return Ranges(sorted(chain(self, other)))

    def __sub__(self, other: Ranges) -> Ranges:
        """Return the numbers of this one that are not in the other."""
        left: list[tuple[int, int]] = []
        for start, end in self:
            position = bisect_left(other._ends, start)
            while position < len(other._starts) and other._starts[position] <= end:
                if other._starts[position] > start:
                    left.append((start, other._starts[position] - 1))
                start = other._ends[position] + 1
                position += 1
            if start <= end:
                left.append((start, end))
        result = Ranges()
        result._starts = [start for start, _ in left]
        result._ends = [end for _, end in left]
        return result

    def to_json(self) -> list[tuple[int, int]]:
        """Return plain data that the constructor reads."""
        return list(zip(self._starts, self._ends, strict=True))
