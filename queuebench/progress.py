"""Progress of long work: a bar on a terminal, a line a second elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 1.0


class Counter:
    """How many of `total` are done."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self._said_at = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Counter:
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                transient=True,
            )
            self._task = self._bar.add_task(self.what, total=self.total or None, rate="")
            self._bar.start()
            self._began = time.monotonic()
        return self

    def show(self, done: int) -> None:
        """Show how many are done now."""
        if self._bar is not None:
            seconds = time.monotonic() - self._began
            rate = f"{done / seconds:,.0f}/s" if seconds > 0.5 else ""
            self._bar.update(self._task, completed=done, total=self.total or None, rate=rate)
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            print(f"{self.what}: {done:,} of {self.total:,}", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
