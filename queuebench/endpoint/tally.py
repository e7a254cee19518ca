"""Which shipments arrived, and how often."""

from __future__ import annotations

import hashlib
import re

from queuebench.measuring.ranges import Ranges

PAGE = 4096
LONGEST_ID = 300
# `run`-`number`, the number written in the one way that numbers are written.
_NUMBERED = re.compile(r"(.+)-(0|[1-9][0-9]{0,14})")
_VISIBLE = re.compile(r"[ -~\xa0-\xff]+")


def kept_id(shipment_id: str) -> str:
    """Return the id as it is kept: what is too long, or would not stay one line, by its SHA-256."""
    if len(shipment_id) <= LONGEST_ID and _VISIBLE.fullmatch(shipment_id):
        return shipment_id
    return "%sha256-" + hashlib.sha256(shipment_id.encode("utf-8", "surrogatepass")).hexdigest()


class _Run:
    """What arrived of one run: in each page of numbers the only one, or a bit for each."""

    __slots__ = ("distinct", "duplicates", "pages")

    def __init__(self) -> None:
        self.pages: dict[int, int | bytearray] = {}
        self.distinct = self.duplicates = 0

    def add(self, number: int) -> None:
        page, place = divmod(number, PAGE)
        found = self.pages.get(page)
        if found is None:
            self.pages[page] = place
        elif found == place:
            self.duplicates += 1
            return
        else:
            if isinstance(found, int):
                bits = self.pages[page] = bytearray(PAGE // 8)
                bits[found >> 3] |= 1 << (found & 7)
                found = bits
            bit = 1 << (place & 7)
            if found[place >> 3] & bit:
                self.duplicates += 1
                return
            found[place >> 3] |= bit
        self.distinct += 1


class Tally:
    """Which ids arrived, how often.

    Exact where ids are numbered: a bit a message where the numbers of a run lie close together, some 150
    bytes for a number by itself, some 600 for a run. Of other ids 15 bytes of a digest are kept, 110 bytes
    each with what Python needs; that two of a billion share one has a probability of 10⁻¹⁸.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._others: set[bytes] = set()
        self._other_duplicates = 0

    def add(self, shipment_id: str) -> str:
        """Count an arrival and return the run that it belongs to, '' where its id names none."""
        numbered = _NUMBERED.fullmatch(shipment_id)
        if numbered is None:
            digest = hashlib.blake2b(shipment_id.encode("utf-8", "surrogatepass"), digest_size=15).digest()
            if digest in self._others:
                self._other_duplicates += 1
            self._others.add(digest)
            return ""
        run = self._runs.get(numbered[1])
        if run is None:
            run = self._runs[numbered[1]] = _Run()
        run.add(int(numbered[2]))
        return numbered[1]

    def distinct(self, run: str) -> int:
        """Count the messages of a run that arrived; '': those that belong to none."""
        found = self._runs.get(run)
        return found.distinct if found else 0 if run else len(self._others)

    def duplicates(self, run: str) -> int:
        """Count their arrivals after the first."""
        found = self._runs.get(run)
        return found.duplicates if found else 0 if run else self._other_duplicates

    def numbers(self, run: str) -> Ranges:
        """Return the numbers of a run that arrived."""
        arrived = Ranges()
        pages = self._runs[run].pages if run in self._runs else {}
        for page, found in sorted(pages.items()):
            if isinstance(found, int):
                arrived.add(page * PAGE + found)
                continue
            # Binary digits, the last first: runs of them are found by the C library.
            digits = f"{int.from_bytes(found, 'little'):0{PAGE}b}"[::-1]
            end = 0
            while (start := digits.find("1", end)) >= 0:
                end = digits.find("0", start)
                end = PAGE if end < 0 else end
                arrived.add(page * PAGE + start, page * PAGE + end - 1)
        return arrived
