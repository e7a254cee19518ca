"""PROFILE: steps, ramps and bursts in a line, or counts per interval as CloudWatch exports them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from queuebench.errors import SettingsError
from queuebench.load.curve import Curve, Stretch
from queuebench.plumbing.printable import printable, to_text

MOST_BYTES = 16 * 2**20  # of a file
MOST_STRETCHES = 100_000
HIGHEST_RATE = 1e6
LONGEST_SECONDS = 366 * 86_400.0
EXAMPLE = "100 for 60, 100..500 over 30, 2000 for 5"

_NUMBER = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_STRETCH = re.compile(
    rf"{_NUMBER}\s*(?:/s)?\s*(?:for|\.\.\s*{_NUMBER}\s*(?:/s)?\s*over)\s*{_NUMBER}\s*s?", re.IGNORECASE
)
_TIME = re.compile(r"[0-9]{4}([-/])[0-9]{2}\1[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*")
_COUNT = re.compile(r"[0-9][0-9,]*(?:\.[0-9]*)?(?:[eE]\+?[0-9]{1,2})?")
_EPOCH = re.compile(r"[0-9]{10}(?:[0-9]{3})?(?:\.[0-9]+)?")


class Profile:
    """A curve, and whether it was counted: then it is put into any length, with its rates."""

    def __init__(self, curve: Curve, counted: bool) -> None:
        self.curve, self.counted = curve, counted

    def within(self, seconds: float) -> tuple[Curve, float]:
        """Return the curve for a DURATION, and how many times faster than it was counted it goes by."""
        if not self.counted:
            return self.curve.cut(seconds), 1.0
        if seconds == math.inf:
            return self.curve, 1.0
        return self.curve.squeezed(seconds), self.curve.seconds / seconds


def read(setting: str) -> Profile:
    """Return the profile that PROFILE holds or names.

    Raises:
        SettingsError: it is none; one line that says what and where.
    """
    called = f"PROFILE={setting!r}"
    path = Path(setting)
    try:
        if not path.is_file():
            return Profile(_stretches(setting, called), counted=False)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{called} cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(data) > MOST_BYTES:
        raise SettingsError(f"{called} is larger than {MOST_BYTES:,} bytes")
    try:
        text = to_text(data)
    except UnicodeDecodeError:
        raise SettingsError(f"{called} is not UTF-8: save it in that encoding") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if any(_STRETCH.match(line.strip()) for line in lines):
        return Profile(_stretches(",".join(lines), called), counted=False)
    return Profile(_counts(lines, called), counted=True)


def _stretches(text: str, called: str) -> Curve:
    found = []
    for part in re.split(r"[,;]", text):
        if not part.strip():
            continue
        match = _STRETCH.fullmatch(part.strip())
        if match is None:
            raise SettingsError(
                f"{called}: {printable(part.strip()[:60])!r} is neither 'RATE for SECONDS' nor "
                f"'RATE..RATE over SECONDS', and there is no file of that name; for example {EXAMPLE!r}"
            )
        first, last, seconds = match.groups()
        found.append(Stretch(float(seconds), float(first), float(first if last is None else last)))
    return _checked(found, called)


def _checked(stretches: Sequence[Stretch], called: str) -> Curve:
    if not 0 < len(stretches) <= MOST_STRETCHES:
        raise SettingsError(f"{called}: between one and {MOST_STRETCHES:,} stretches are needed")
    for stretch in stretches:
        if not 0.0 < stretch.seconds <= LONGEST_SECONDS:
            raise SettingsError(
                f"{called}: {stretch.seconds:g} s: each stretch takes more than 0 s, and a year at the most"
            )
        highest = max(stretch.first, stretch.last)
        if highest > HIGHEST_RATE:
            raise SettingsError(f"{called}: {highest:,.0f}/s: the highest rate is {HIGHEST_RATE:,.0f}/s")
    curve = Curve(stretches)
    if curve.messages < 1.0:
        raise SettingsError(f"{called}: not one message is due in it")
    return curve


def _counts(lines: Sequence[str], called: str) -> Curve:
    """Return the curve of a table of times and counts, in whatever order, with any lines above it.

    What CloudWatch's console saves has lines of labels first; its command line prints tabs, and in no order.
    An interval in which nothing was sent has no line.
    """
    delimiter = next((mark for mark in "\t;" if any(mark in line for line in lines)), ",")
    counts: dict[float, float] = {}
    period = 0.0
    column: int | None = None
    for number, cells in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in cells]
        at = next((each for each, cell in enumerate(cells) if _seconds(cell) is not None), None)
        if at is not None:
            time = _seconds(cells[at]) or 0.0
            others = [cell for each, cell in enumerate(cells) if each != at and column in (None, each)]
            counts[time] = counts.get(time, 0.0) + _count(others, f"{called}, line {number}")
        elif counts:
            raise SettingsError(f"{called}, line {number}: there is no time like 2026-11-25T08:00:00Z")
        else:
            period = _period(cells, called) or period
            lower = [cell.lower() for cell in cells]
            column = lower.index("sum") if "sum" in lower else column
    if not counts:
        raise SettingsError(f"{called} has no line with a time and a count, as CloudWatch exports them")
    return _checked(_steps(counts, period, called), called)


def _steps(counts: dict[float, float], period: float, called: str) -> list[Stretch]:
    starts = sorted(counts)
    seconds = period or min((later - earlier for earlier, later in pairwise(starts)), default=0.0)
    if seconds <= 0.0:
        raise SettingsError(f"{called} has one line: how long its interval is takes two")
    steps: list[Stretch] = []
    for start, following in zip(starts, [*starts[1:], math.inf], strict=True):
        if following - start < seconds - 1e-3:
            raise SettingsError(f"{called}: two lines are closer together than its interval of {seconds:g} s")
        steps.append(Stretch(seconds, counts[start] / seconds, counts[start] / seconds))
        if seconds + 1e-3 < following - start < math.inf:
            steps.append(Stretch(following - start - seconds, 0.0, 0.0))
    return steps


def _count(cells: Sequence[str], where: str) -> float:
    """Return the count of a line; where nothing stands, nothing was sent."""
    numbers = [float(cell.replace(",", "")) for cell in cells if _COUNT.fullmatch(cell)]
    if len(numbers) > 1:
        raise SettingsError(
            f"{where}: {len(numbers)} columns of numbers; leave one, the Sum of NumberOfMessagesSent"
        )
    if not numbers and (unread := [cell for cell in cells if cell]):
        raise SettingsError(f"{where}: {printable(unread[0][:40])!r} is no count")
    return numbers[0] if numbers else 0.0


def _period(cells: Sequence[str], called: str) -> float:
    """Return the interval that a line of labels names; 0: it names none."""
    name, value = [*cells, "", ""][:2]
    if name.lower() in ("statistic", "stat") and value and value.lower() != "sum":
        raise SettingsError(
            f"{called}: its statistic is {printable(value[:40])!r}: Sum is needed, the counts"
        )
    found = re.match(_NUMBER, value) if name.lower() == "period" else None
    return float(found[0]) if found else 0.0


def _seconds(cell: str) -> float | None:
    """Return the Unix seconds of a time, as it is where it has no zone; None: it is no time."""
    if _EPOCH.fullmatch(cell):
        return float(cell) / (1000.0 if len(cell.partition(".")[0]) == 13 else 1.0)
    if not _TIME.fullmatch(cell):
        return None
    try:
        found = datetime.fromisoformat(cell.replace("/", "-"))
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
