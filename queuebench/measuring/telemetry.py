"""What a process did: totals so far, sent to the monitor about once a second and at the end.

The newest totals of a process replace the ones before, so a lost report costs nothing. Nothing
here is on the way of a message: without a monitor everything still ships.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading
import time
import uuid
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import requests

from queuebench.measuring.histogram import Histogram
from queuebench.measuring.ranges import Ranges
from queuebench.plumbing.proxies import direct_session

REPORT_SECONDS = 1.0
# How often a process that has nothing new says that it is alive.
IDLE_REPORT_SECONDS = 5.0
FORGET_RUN_SECONDS = 600.0
# A stage that did nothing for so long was not active in between.
IDLE_GAP_SECONDS = 1.0
# Of the spells of a stage that comes and goes, so that a report does not grow with the run.
MOST_INTERVALS = 100


class RunTotals:
    """What one process did for one run, so far."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.latencies: dict[str, Histogram] = {}
        self.active: dict[str, list[list[float]]] = {}
        self.accepted = Ranges()
        self.touched_at = time.monotonic()

    def to_json(self) -> dict[str, Any]:
        """Return plain data: counts, latencies by stage, active intervals by stage, accepted numbers."""
        return {
            "counts": dict(self.counts),
            "latencies": {stage: histogram.to_json() for stage, histogram in self.latencies.items()},
            "active": self.active,
            "accepted": self.accepted.to_json(),
        }


class Telemetry:
    """The totals of this process; safe to use from several threads."""

    def __init__(
        self,
        role: str,
        monitor_url: str = "",
        *,
        slots: int = 0,
        requests_made: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.role, self.slots = role, slots
        self.process = uuid.uuid4().hex
        self._url = f"{monitor_url}/report" if monitor_url else ""
        self._requests_made = requests_made
        self._started_at = time.time()
        self._startup_cpu_seconds = 0.0
        self._clock = {"offset_seconds": 0.0, "within_seconds": -1.0}
        self._runs: dict[str, RunTotals] = {}
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._session = direct_session()

    def start(self) -> None:
        """Report, and go on reporting; what the process has cost until now counts as its start-up."""
        if self._url and self._thread is None:
            self._startup_cpu_seconds = _cpu_seconds()
            # Before any work, so that the monitor can tell a run's cost from what was before it.
            self._send(ended=False)
            self._thread = threading.Thread(target=self._report_for_ever, name="telemetry", daemon=True)
            self._thread.start()

    def close(self, patience_seconds: float = 5.0) -> None:
        """Send the last totals; give up after `patience_seconds` without a monitor."""
        if self._thread is None:
            return
        self._wake.set()
        self._thread.join(timeout=patience_seconds + 1.0)
        give_up_at = time.monotonic() + patience_seconds
        while not self._send(ended=True) and time.monotonic() < give_up_at:
            time.sleep(0.2)

    def record(
        self,
        run: str | None,
        stage: str,
        *,
        counts: Mapping[str, int] | None = None,
        latencies: Sequence[tuple[float, int]] = (),
        durations: Sequence[float] = (),
        started_at: float = 0.0,
        ended_at: float = 0.0,
    ) -> None:
        """Add to the totals of a run (None: of messages that belong to none).

        Args:
            run: the run's id.
            stage: whose latencies and active time these are.
            counts: what happened, and how often.
            latencies: (seconds, how many) pairs.
            durations: latencies in seconds, one of each.
            started_at: Unix seconds when the stage began with this.
            ended_at: Unix seconds when it was done; 0: leave the active time alone.
        """
        with self._lock:
            totals = self._touch(run or "")
            if counts:
                kept = totals.counts
                for name, count in counts.items():
                    kept[name] = kept.get(name, 0) + count
            if latencies or durations:
                histogram = totals.latencies.get(stage)
                if histogram is None:
                    histogram = totals.latencies[stage] = Histogram()
                for seconds, count in latencies:
                    histogram.record(seconds, count)
                histogram.record_each(durations)
            if ended_at:
                extend_active(totals.active.setdefault(stage, []), started_at, ended_at)

    def accepted(self, run: str, first: int, last: int) -> None:
        """Add numbers that the queue has accepted."""
        with self._lock:
            self._touch(run).accepted.add(first, last)

    def accepted_so_far(self, run: str) -> Ranges:
        """Return the numbers that `accepted` was told."""
        with self._lock:
            return Ranges(self._runs[run].accepted) if run in self._runs else Ranges()

    def _touch(self, run: str) -> RunTotals:
        totals = self._runs.get(run)
        if totals is None:
            totals = self._runs[run] = RunTotals()
        self._dirty.add(run)
        return totals

    def _report_for_ever(self) -> None:
        sent_at, moved = time.monotonic(), False
        while True:
            # Once more after the last thing that happened, for what it has cost.
            moved, moved_before = bool(self._dirty), moved
            if moved or moved_before or time.monotonic() - sent_at >= IDLE_REPORT_SECONDS:
                sent_at = time.monotonic()
                self._send(ended=False)
            if self._wake.wait(REPORT_SECONDS):
                return

    def _send(self, ended: bool) -> bool:
        with self._lock:
            sent, self._dirty = self._dirty, set()
            now = time.monotonic()
            for run in sent:
                self._runs[run].touched_at = now
            runs = {run: self._runs[run].to_json() for run in sent}
            for run in [r for r, t in self._runs.items() if r and now - t.touched_at > FORGET_RUN_SECONDS]:
                del self._runs[run]
            unassigned = dict(self._runs[""].counts) if "" in self._runs else {}
        report = {
            "process": self.process,
            "role": self.role,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": self.slots,
            "started_at": self._started_at,
            "now": time.time(),
            "clock": self._clock,
            "ended": ended,
            "startup_cpu_seconds": self._startup_cpu_seconds,
            "cpu_seconds": _cpu_seconds(),
            "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS_PER_MIB,
            "cores": os.cpu_count() or 1,
            "machine_cpu_seconds": _machine_cpu_seconds(),
            "requests": dict(self._requests_made()),
            "unassigned": unassigned,
            "runs": runs,
        }
        with contextlib.suppress(requests.RequestException):
            data = orjson.dumps(report)
            asked_at = time.time()
            answer = self._session.post(self._url, data=data, timeout=(2.0, 5.0))
            if answer.status_code == 200:
                self._compare_clocks(asked_at, time.time(), answer.content)
                return True
        with self._lock:
            self._dirty |= sent & self._runs.keys()
        return False

    def _compare_clocks(self, asked_at: float, answered_at: float, answer: bytes) -> None:
        """Keep the most exact of all comparisons with the monitor's clock, as NTP does."""
        within = (answered_at - asked_at) / 2.0
        if self._clock["within_seconds"] < 0 or 0 <= within < self._clock["within_seconds"]:
            offset = (asked_at + answered_at) / 2.0 - orjson.loads(answer)["now"]
            self._clock = {"offset_seconds": offset, "within_seconds": within}


# The kernel gives bytes on macOS and KiB elsewhere: getrusage(2).
_RSS_UNITS_PER_MIB = 1024.0 * (1024.0 if sys.platform == "darwin" else 1.0)


def _cpu_seconds() -> float:
    """Return what this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _machine_cpu_seconds() -> float | None:
    """Return what all processes of this machine have used, or None where /proc does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), Path("/proc/stat").open("rb") as stat:
        # user nice system idle iowait irq softirq steal, in ticks: proc_stat(5)
        ticks = [int(value) for value in stat.readline().split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]
        return busy / os.sysconf("SC_CLK_TCK")
    return None


def extend_active(intervals: list[list[float]], started_at: float, ended_at: float) -> None:
    """Add the time from `started_at` to `ended_at` to sorted intervals, joining those close together.

    Of more than `MOST_INTERVALS` the two nearest to each other become one.
    """
    if intervals and intervals[-1][0] <= started_at <= intervals[-1][1] + IDLE_GAP_SECONDS:
        intervals[-1][1] = max(intervals[-1][1], ended_at)
        return
    # A spell begins, or threads finish in another order than they began.
    insort(intervals, [started_at, ended_at])
    while len(intervals) > 1:
        gaps = [later[0] - earlier[1] for earlier, later in pairwise(intervals)]
        nearest = gaps.index(min(gaps))
        if gaps[nearest] > IDLE_GAP_SECONDS and len(intervals) <= MOST_INTERVALS:
            return
        _, end = intervals.pop(nearest + 1)
        intervals[nearest][1] = max(intervals[nearest][1], end)
