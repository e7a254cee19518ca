"""Progress of long work: live on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import Progress, TaskID

# rich is imported only where there is a terminal: it is as much as the rest of a publisher.

LINE_SECONDS = 3.0


class Counter:
    """How many of `total` are done."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self._said_at = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Counter:
        if sys.stdout.isatty():
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

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
        if self._bar is not None and self._task is not None:
            seconds = time.monotonic() - self._began
            rate = f"{done / seconds:,.0f}/s" if seconds > 0.5 else ""
            self._bar.update(self._task, completed=done, total=self.total or None, rate=rate)
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            print(f"{self.what}: {done:,}" + (f" of {self.total:,}" if self.total else ""), flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class RunView:
    """An open run: what was published, waits, is in Celery and was delivered, rates, and the time left."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._said_at = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> RunView:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(transient=True, auto_refresh=False)
            self._live.start()
        return self

    def show(self, state: Mapping[str, Any]) -> None:
        """Show how the run stands, as the monitor tells it."""
        if state.get("summary") is not None:
            return
        if self._live is not None:
            self._live.update(self._picture(state), refresh=True)
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            print(progress_line(self._label, state), flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _picture(self, state: Mapping[str, Any]) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 3))
        table.add_column(justify="left")
        table.add_column(justify="right")
        table.add_column(justify="right", style="dim")
        rates = state["rates"]
        rows: list[tuple[str, Any, str]] = [
            ("published", state["accepted"], _published(state)),
            (f"waiting in {self._label}", state["queue"], ""),
            ("in Celery", state["celery"], ""),
            ("delivered", state["delivered"], f"{rates['delivered']:,.0f}/s"),
        ]
        if state["dead_letters"]:
            rows.append(("dead letters", state["dead_letters"], ""))
        for name, count, rate in rows:
            table.add_row(name, "?" if count is None else f"{count:,}", rate)
        bottom = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=state["messages"] or 1, completed=state["delivered"], width=40)
        bottom.add_row(bar, Text(time_left(state["seconds_left"]), style="dim"))
        return Group(table, bottom)


def _published(state: Mapping[str, Any]) -> str:
    """Return how fast messages are published, and were asked for by all publishers together."""
    asked = f" of {state['asked']:,.1f}/s asked" if state.get("asked") else ""
    return f"{state['rates']['published']:,.0f}/s{asked}"


def progress_line(label: str, state: Mapping[str, Any]) -> str:
    """Return how an open run stands, in a line for a log."""
    parts = [
        f"delivered {state['delivered']:,} of {state['messages']:,} ({state['rates']['delivered']:,.0f}/s)"
    ]
    if state["accepted"] < state["messages"]:
        parts.append(f"published {state['accepted']:,} ({_published(state)})")
    if state["queue"] is not None:
        parts.append(f"waiting in {label} {state['queue']:,}")
    if state["celery"] is not None:
        parts.append(f"in Celery {state['celery']:,}")
    if state["dead_letters"]:
        parts.append(f"dead letters {state['dead_letters']:,}")
    return ", ".join([*parts, time_left(state["seconds_left"])])


def time_left(seconds: float | None) -> str:
    """Return how long something still takes, in words."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 90:
        return f"{seconds:.0f} s left"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min left"
    return f"{seconds / 3600:.1f} h left"
