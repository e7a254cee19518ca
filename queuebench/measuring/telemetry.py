"""What a process did: totals so far, sent to the monitor about once a second and at the end.

The newest totals of a process replace the ones before, so a lost report costs nothing. Nothing
here is on the way of a message: without a monitor, or with one that answers nonsense, everything
still ships. A report is bounded: `MOST_RUNS` runs, `MOST_INTERVALS` spells of a stage, `MOST_RANGES` ranges
of accepted numbers, and histograms whose buckets are bounded by what is plausible.
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from queuebench.measuring.histogram import Histogram
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.records import (
    FORMAT,
    MOST_INTERVALS,
    MOST_NAME,
    MOST_RANGES,
    Clock,
    Count,
    FormatError,
    ProcessReport,
    Range,
    ReportAnswer,
    Role,
    RunTotals,
    Stage,
    decode,
    encode,
)
from queuebench.plumbing.asker import Asker, Unanswered
from queuebench.plumbing.printable import safe_text
from queuebench.plumbing.proxies import direct_session

REPORT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
# How often a process that has nothing new says that it is alive.
IDLE_REPORT_SECONDS = 5.0
FORGET_RUN_SECONDS = 600.0
# Whoever writes messages names their runs, as many as they like; what is beyond belongs to no run.
MOST_RUNS = 16
SPARE_RUN_SECONDS = 10.0  # a run that was quiet for so long makes room for another
# Of the comparisons with the monitor's clock; clocks drift, so the best one is not believed for ever.
CLOCK_COMPARISONS = 120
# A stage that did nothing for so long was not active in between.
IDLE_GAP_SECONDS = 1.0


class _Totals:
    """What this process did for one run, so far."""

    def __init__(self) -> None:
        self.counts: dict[Count, int] = {}
        self.latencies: dict[Stage, Histogram] = {}
        self.active: dict[Stage, list[list[float]]] = {}
        self.accepted = Ranges()
        self.touched_at = time.monotonic()

    def frozen(self) -> RunTotals:
        """Return a copy that nothing changes any more."""
        return RunTotals(
            dict(self.counts),
            {stage: histogram.frozen() for stage, histogram in self.latencies.items()},
            {stage: [(start, end) for start, end in spells] for stage, spells in self.active.items()},
            # More gaps than that are none for long: what is beyond is told once they have closed.
            self.accepted.to_json()[:MOST_RANGES],
        )


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
        self.role, self.slots = Role(role), slots
        self.process = uuid.uuid4().hex
        self._url = f"{monitor_url}/report" if monitor_url else ""
        self._requests_made = requests_made
        self._started_at = time.time()
        self._startup_cpu_seconds = 0.0
        self._number = 0
        self._clocks: deque[Clock] = deque(maxlen=CLOCK_COMPARISONS)
        self._runs: dict[str, _Totals] = {}
        self._open_run: str | None = None
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._asker = Asker(direct_session())
        self._complaint = ""

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
        stage: Stage,
        *,
        counts: Mapping[Count, int] | None = None,
        latencies: Sequence[tuple[float, int]] = (),
        durations: Sequence[float] = (),
        started_at: float = 0.0,
        ended_at: float = 0.0,
    ) -> None:
        """Add to the totals of a run (None: of messages that belong to none).

        Times that are not plausible, because a message or a header said so, are left out and counted.

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
            kept = totals.counts
            if counts:
                for name, count in counts.items():
                    kept[name] = kept.get(name, 0) + count
            if latencies or durations:
                histogram = totals.latencies.get(stage)
                if histogram is None:
                    histogram = totals.latencies[stage] = Histogram()
                left_out = histogram.record_each(durations) if durations else 0
                for seconds, count in latencies:
                    left_out += histogram.record(seconds, count)
                if left_out:
                    kept[Count.IMPLAUSIBLE] = kept.get(Count.IMPLAUSIBLE, 0) + left_out
            if ended_at:
                extend_active(totals.active.setdefault(stage, []), started_at, ended_at)

    def accepted(self, run: str, first: int, last: int) -> None:
        """Add numbers that the queue has accepted."""
        with self._lock:
            self._open_run = self._open_run or run
            self._touch(run).accepted.add(first, last)

    def accepted_so_far(self, run: str) -> list[Range]:
        """Return the numbers that `accepted` was told, as a report has them."""
        with self._lock:
            return self._runs[run].accepted.to_json()[:MOST_RANGES] if run in self._runs else []

    def latency(self, run: str, stage: Stage) -> Histogram:
        """Return a copy of what was recorded of a stage."""
        with self._lock:
            totals = self._runs.get(run)
            found = totals.latencies.get(stage) if totals is not None else None
            return Histogram() if found is None else Histogram.of(found.frozen())

    def _touch(self, run: str) -> _Totals:
        totals = self._runs.get(run)
        if totals is None:
            if run and not self._has_room_for(run):
                return self._touch("")
            totals = self._runs[run] = _Totals()
        self._dirty.add(run)
        return totals

    def _has_room_for(self, run: str) -> bool:
        if len(run) > MOST_NAME:
            return False
        if len(self._runs) <= MOST_RUNS or run == self._open_run:
            return True
        # Totals that the monitor has and that have not grown for a while can go.
        now = time.monotonic()
        spare = [
            name
            for name, totals in self._runs.items()
            if name and name != self._open_run and name not in self._dirty
            if now - totals.touched_at > SPARE_RUN_SECONDS
        ]
        if spare:
            del self._runs[min(spare, key=lambda name: self._runs[name].touched_at)]
        return bool(spare)

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
            report = self._report({run: self._runs[run].frozen() for run in sent}, ended)
        answer = self._post(report)
        with self._lock:
            if answer is None:
                self._dirty |= sent & self._runs.keys()
                return False
            self._open_run = answer.run
            # Forgotten while it is open, a run would begin again at 0, and that would replace its total.
            for run in [r for r, t in self._runs.items() if now - t.touched_at > FORGET_RUN_SECONDS]:
                if run and run != answer.run and run not in self._dirty:
                    del self._runs[run]
        return True

    def _report(self, runs: dict[str, RunTotals], ended: bool) -> ProcessReport:
        self._number += 1
        none = self._runs.get("")
        return ProcessReport(
            format=FORMAT,
            process=self.process,
            number=self._number,
            role=self.role,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=self.slots,
            started_at=self._started_at,
            now=time.time(),
            clock=min(self._clocks, key=lambda clock: clock.within_seconds, default=Clock()),
            ended=ended,
            startup_cpu_seconds=self._startup_cpu_seconds,
            cpu_seconds=_cpu_seconds(),
            max_rss_mib=peak_memory_mib(),
            cores=os.cpu_count() or 1,
            machine_cpu_seconds=_machine_cpu_seconds(),
            requests=dict(self._requests_made()),
            unassigned=dict(none.counts) if none is not None else {},
            runs=runs,
        )

    def _post(self, report: ProcessReport) -> ReportAnswer | None:
        asked_at = time.time()
        try:
            answer = self._asker.ask("POST", self._url, data=encode(report), seconds=ANSWER_SECONDS)
        except Unanswered:
            # It may be starting, or be gone for a while; whoever needs it says so.
            return None
        if answer.status >= 500:
            return None
        try:
            if answer.status != 200:
                raise FormatError(answer.text or f"HTTP {answer.status}")
            read = decode(answer.content, ReportAnswer, "its answer")
        except FormatError as error:
            self._complain(str(error))
            return None
        self._compare_clocks(asked_at, time.time(), read.now)
        return read

    def _complain(self, what: str) -> None:
        """Say once that the monitor takes no figures from this process, which goes on without it."""
        if what != self._complaint:
            self._complaint = what
            print(safe_text(f"{self.role}: MONITOR_URL takes no report: {what}"), file=sys.stderr, flush=True)

    def _compare_clocks(self, asked_at: float, answered_at: float, monitors: float) -> None:
        """Keep the comparison, as NTP does; of the last ones the most exact counts."""
        within = (answered_at - asked_at) / 2.0
        if within >= 0.0:
            self._clocks.append(Clock((asked_at + answered_at) / 2.0 - monitors, within))


def peak_memory_mib() -> float:
    """Return the most memory that this process itself had resident.

    Not `ru_maxrss` where the kernel tells: that survives `exec`, so a process that a fat one started
    would report its parent's peak.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS_PER_MIB


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
