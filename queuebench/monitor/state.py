"""What the monitor knows, in memory alone: the processes, and the run that is open."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from queuebench.errors import QueueError
from queuebench.measuring.age import Age
from queuebench.measuring.histogram import Histogram
from queuebench.measuring.records import (
    Count,
    Ending,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    ProcessReport,
    RunRecord,
    SettingValue,
    Stage,
    Tally,
)
from queuebench.measuring.run import GONE_SECONDS, MOST_PROCESSES, Run
from queuebench.measuring.series import Point, Series
from queuebench.monitor.probing import Sample

# Every process reports once more after the last message has arrived.
LAST_REPORTS_SECONDS = 1.5
# By which the clock has to run off for it to have been set, or the machine to have slept.
SET_SECONDS = 2.0


class NotYetKnown(QueueError):
    """Whether a run was open before the monitor started is not known yet, as the broker does not answer."""


class Opening(Struct, frozen=True):
    """What a new run begins with."""

    run_id: str
    settings: dict[str, SettingValue]
    versions: dict[str, str]
    queue: str
    label: str


class Verdict(Struct, frozen=True):
    """What a look at the open run came to."""

    record: RunRecord
    version: int
    point: Point
    over: bool


class State:
    """The processes that report, and the open run; safe to use from several threads.

    Bounded: 5,000 processes, the open run as `Run` is, 600 points of its series.
    """

    def __init__(self, left_open: Sequence[RunRecord]) -> None:
        self._lock = threading.Lock()
        self._processes: dict[str, ProcessReport] = {}
        self._seen_at: dict[str, float] = {}
        self._left_open = {record.run_id: record for record in left_open}
        self._run: Run | None = None
        self._series, self._ages = Series(), (Age(), Age())
        self._version = 0
        self._clock = time.time(), time.monotonic()

    @property
    def undecided(self) -> bool:
        """Whether there are runs that may have to be gone on with."""
        return bool(self._left_open)

    def resume(self, noted: str | None, series: Series) -> None:
        """Go on with the run that the broker names; any other that was left open is not this monitor's.

        The broker names it, for a run's messages are where the broker's tasks are. Any other was left open
        with servers that are gone, or is that of another monitor.
        """
        with self._lock:
            now = self._now()
            record, self._left_open = self._left_open.get(noted or ""), {}
            if record is None or self._run is not None:
                return
            # While everything was stopped, nothing could move.
            publishers = {name: replace(p, seen_at=now) for name, p in record.publishers.items()}
            servers = {name: replace(server, at=now) for name, server in record.servers.items()}
            since = {"moved_at": now, "empty_since": None, "ending_since": None}
            record = replace(record, publishers=publishers, servers=servers, **since)
            self._run, self._series = Run(record), series

    def report(self, report: ProcessReport) -> str | None:
        """Take the newest totals of a process; return the run that is open.

        Raises:
            NotYetKnown: see the class.
            RunFull: more processes than a run takes.
        """
        with self._lock:
            now = self._now()
            known = self._processes.get(report.process)
            if known is None or report.number > known.number:
                self._processes[report.process] = replace(report, runs={})
            self._seen_at[report.process] = now
            self._forget_the_silent(now)
            self._decided()
            if self._run is None or not self._run.is_open:
                return None
            self._run.report(report, now, known)
            return self._run.id

    def was_held(self, seconds: float) -> None:
        """Count no time in which this process did not run (SIGSTOP, `docker pause`): it heard nobody."""
        with self._lock:
            self._shift(seconds, clock_set=False)

    def hears_from(self, host: str) -> bool:
        """Tell whether a process of that host is at work."""
        now = time.time()
        # Without the lock, which is held while a run is judged: a health check has no time for that.
        return any(
            report.host == host and not report.ended and now - self._seen_at.get(process, 0.0) < GONE_SECONDS
            for process, report in list(self._processes.items())
        )

    def open_run(self) -> str | None:
        """Return the id of the run that is open."""
        run = self._run
        return None if run is None else run.id

    def open(self, opening: Opening, sample: Sample) -> None:
        """Open a run, where none is.

        Raises:
            NotYetKnown: see the class.
        """
        with self._lock:
            now = self._now()
            self._decided()
            if self._run is not None:
                return
            alive = {
                process: report
                for process, report in self._processes.items()
                if now - self._seen_at[process] < GONE_SECONDS and not report.ended
            }
            self._series, self._ages = Series(), (Age(), Age())
            self._run = Run.open(
                opening.run_id,
                now,
                opening.settings,
                opening.versions,
                opening.queue,
                opening.label,
                {
                    "queue": sample.queue.total if sample.queue else 0,
                    "celery": sample.celery.total if sample.celery else 0,
                },
                alive,
            )
            self._run.change(servers=sample.servers_after({}, now, moved=False))

    def join(self, asked: JoinRequest) -> tuple[JoinAnswer, RunRecord, int] | None:
        """Let a publisher into the open run and return what to keep; None: no run is open.

        Raises:
            NotYetKnown: see the class; or the run before is just being closed.
            RunFull: more publishers than a run takes.
        """
        with self._lock:
            self._decided()
            if self._run is None:
                return None
            if not self._run.is_open:
                raise NotYetKnown("the run before is just being closed: join again")
            first = self._run.join(asked, self._now())
            answer = JoinAnswer(self._run.id, first, self._run.record.backlog_before)
            return answer, *self._to_keep(self._run)

    def leave(self, run_id: str, asked: LeaveRequest) -> tuple[RunRecord, int] | None:
        """Note that a publisher has ended and return what to keep; None: that run is not open.

        Raises:
            NotYetKnown: see the class.
        """
        with self._lock:
            self._decided()
            if self._run is None or self._run.id != run_id or not self._run.is_open:
                return None
            self._run.leave(asked)
            return self._to_keep(self._run)

    def current(self) -> tuple[RunRecord, list[Point]] | None:
        """Return the open run as it stands, and its series.

        Raises:
            NotYetKnown: see the class.
        """
        with self._lock:
            self._decided()
            return None if self._run is None else (self._run.frozen(), self._series.points())

    def looks_complete(self) -> bool:
        """Tell whether the open run is worth a look at which numbers arrived."""
        with self._lock:
            return self._run is not None and self._run.looks_complete(self._now())

    def judge(self, run_id: str, sample: Sample, tally: Tally) -> Verdict | None:
        """Take what a look has found and tell whether the run is over; None: it is not open any more."""
        with self._lock:
            now = self._now()
            run = self._run
            if run is None or run.id != run_id:
                return None
            peaks = {
                place: held.total
                for place, held in (("queue", sample.queue), ("celery", sample.celery))
                if held is not None
            }
            run.see(tally, sample.dead_letters, {}, {**run.record.peaks, **peaks}, sample.measuring_requests)
            how = run.judge(now, sample.empty)
            moved = run.record.moved_at == now
            servers = sample.servers_after(run.record.servers, now, moved)
            run.change(servers={**run.record.servers, **servers})
            point = _point(run, sample, self._ages, now)
            self._series.add(point)
            over = False
            if how is None:
                run.change(ending_since=None)
            elif run.record.ending_since is None:
                run.change(ending_since=now)
            else:
                over = now - run.record.ending_since >= LAST_REPORTS_SECONDS
            if over:
                assert how is not None
                run.close(now, how)
            return Verdict(*self._to_keep(run), point, over)

    def set_aside(self, run_id: str) -> tuple[RunRecord, int] | None:
        """End a run that cannot be judged, so that others can follow; None: it is not open."""
        with self._lock:
            run = self._run
            if run is None or run.id != run_id:
                return None
            run.close(self._now(), Ending.SET_ASIDE)
            return self._to_keep(run)

    def finish(self, run_id: str) -> None:
        """Let go of a run that is over, now that its results are written."""
        with self._lock:
            if self._run is not None and self._run.id == run_id:
                self._run = None

    def _to_keep(self, run: Run) -> tuple[RunRecord, int]:
        self._version += 1
        return run.frozen(), self._version

    def _now(self) -> float:
        """Return Unix seconds; where the clock was set, what is waited for is moved with it."""
        before, now, steady = time.monotonic(), time.time(), time.monotonic()
        if steady - before < SET_SECONDS / 4.0:
            was, steadily = self._clock
            self._clock = now, steady
            off = (now - was) - (steady - steadily)
            if abs(off) > SET_SECONDS:
                self._shift(off, clock_set=True)
        return now

    def _shift(self, seconds: float, clock_set: bool) -> None:
        self._seen_at = {process: at + seconds for process, at in self._seen_at.items()}
        if self._run is not None:
            self._run.shift(seconds, clock_set)

    def _decided(self) -> None:
        if self._left_open:
            raise NotYetKnown("whether a run is still open is not known until Celery's broker answers")

    def _forget_the_silent(self, now: float) -> None:
        gone = [name for name, at in self._seen_at.items() if now - at > 10 * GONE_SECONDS]
        if len(self._seen_at) > MOST_PROCESSES:
            gone.append(min(self._seen_at, key=self._seen_at.__getitem__))
        for name in gone:
            self._processes.pop(name, None)
            self._seen_at.pop(name, None)


def _point(run: Run, sample: Sample, ages: tuple[Age, Age], now: float) -> Point:
    cpu: dict[str, float] = {}
    record = run.record
    queue_age, celery_age = (
        age.look(_waits(run, stage), held.waiting if held is not None else None, now)
        for age, stage, held in zip(
            ages, (Stage.QUEUE_WAIT, Stage.CELERY_WAIT), (sample.queue, sample.celery), strict=True
        )
    )
    for process in record.processes.values():
        spent = process.latest.cpu_seconds - process.baseline.cpu_seconds
        cpu[process.role] = cpu.get(process.role, 0.0) + spent
    return Point(
        at=now,
        published=run.count(Count.PUBLISHED),
        received=run.count(Count.RECEIVED),
        handed_over=run.count(Count.HANDED_OVER),
        pushed=run.count(Count.PUSHED),
        delivered=run.delivered(),
        dead_letters=record.dead_letters.count,
        queue=sample.queue,
        celery=sample.celery,
        queue_age=queue_age,
        celery_age=celery_age,
        cpu_seconds={str(role): round(seconds, 3) for role, seconds in cpu.items()},
        server_cpu_seconds={name: round(s.cpu_seconds, 3) for name, s in record.servers.items()},
        memory_bytes={name: s.used_memory for name, s in record.servers.items()},
    )


def _waits(run: Run, stage: Stage) -> Histogram:
    """Return how long everything has waited before a stage, over all processes."""
    waits = Histogram()
    for process in run.record.processes.values():
        if stage in process.totals.latencies:
            waits.merge(Histogram.of(process.totals.latencies[stage]))
    return waits
