"""One run: who joined it, what each process reported, and when it is over. Knows no server and no clock.

The record is frozen data: what is changed is replaced, so that whoever holds one may read it without a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from msgspec.structs import replace

from queuebench.errors import QueueBenchError
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.records import (
    FORMAT,
    Busy,
    Count,
    DeadLettered,
    Ending,
    JoinRequest,
    LeaveRequest,
    ProcessRecord,
    ProcessReport,
    PublisherRecord,
    RunRecord,
    ServerRecord,
    SettingValue,
    Tally,
    Usage,
)

GONE_SECONDS = 10.0  # a process that did not report for so long is taken for dead
EMPTY_SECONDS = 10.0  # nothing moves and nothing is left: the rest is lost
# AWS: the counts of an SQS queue are "eventually consistent", and may lag by a minute (GetQueueAttributes).
AWS_EMPTY_SECONDS = 90.0
STUCK_SECONDS = 300.0  # beyond the longest pause that the settings make: not finished
MOST_PROCESSES = 5_000
MOST_PUBLISHERS = 5_000
MOST_MESSAGES = 10**15  # an id's number has 15 digits
# Ranges, spells and buckets of all that take part, some 100 bytes each: a process has about 500.
MOST_ENTRIES = 2_000_000


class RunFull(QueueBenchError):
    """More take part in a run than it has room for."""


class Run:
    """The record of a run, and the rules that open and close it.

    Bounded: 5,000 processes and publishers with together `MOST_ENTRIES` ranges, spells and buckets.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self._entries: int | None = None  # counted when it is first asked for
        self._accepted: Ranges | None = None  # worked out when it is asked for

    @classmethod
    def open(
        cls,
        run_id: str,
        now: float,
        settings: dict[str, SettingValue],
        versions: dict[str, str],
        queue: str,
        label: str,
        backlog: dict[str, int],
        processes: Mapping[str, ProcessReport],
    ) -> Run:
        """Begin a run.

        Args:
            run_id: its id.
            now: Unix seconds.
            settings: those of the publisher that opened it.
            versions: of what takes part, by name.
            queue: the name that `QUEUE` has.
            label: the queue as reports must name it.
            backlog: what waited before, by place.
            processes: the newest report of each process that is alive; what they cost until now is
                not the run's.
        """
        return cls(
            RunRecord(
                format=FORMAT,
                run_id=run_id,
                queue=queue,
                label=label,
                local=label == "local SQS",
                started_at=now,
                moved_at=now,
                settings=settings,
                versions=versions,
                backlog_before=backlog,
                peaks={"queue": 0, "celery": 0},
                publishers={},
                processes={name: _known(report, _usage(report, now)) for name, report in processes.items()},
            )
        )

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def is_open(self) -> bool:
        """Whether it is not over yet."""
        return self.record.ended_at is None

    @property
    def empty_seconds(self) -> float:
        """For how long nothing may move and everything be empty until the rest is taken for lost."""
        return AWS_EMPTY_SECONDS if self.record.queue == "SQS" and not self.record.local else EMPTY_SECONDS

    @property
    def stuck_seconds(self) -> float:
        """For how long nothing may move at all: the longest pause that the settings make comes on top."""
        used = self.record.used
        slow = used.endpoint_slow_seconds if used.endpoint_slow_share else 0.0
        pauses = [publisher.longest_pause for publisher in self.record.publishers.values()]
        return (
            STUCK_SECONDS
            + max([used.publisher_delay, *pauses])
            + max(used.push_seconds, used.push_timeout, slow)
        )

    def frozen(self) -> RunRecord:
        """Return the record as it stands, whose dictionaries nothing changes any more."""
        record = self.record
        return replace(
            record,
            publishers=dict(record.publishers),
            processes=dict(record.processes),
            servers=dict(record.servers),
        )

    def change(self, **changes: Any) -> None:
        """Replace fields of the record."""
        self.record = replace(self.record, **changes)
        if not changes.keys().isdisjoint(("publishers", "processes")):
            self._accepted = None

    def shift(self, seconds: float, clock_set: bool) -> None:
        """Move every time that something is waited from: the clock was set, or the monitor was held."""

        def moved(at: float) -> float:
            return max(0.0, at + seconds)

        record = self.record
        self.change(
            moved_at=moved(record.moved_at),
            empty_since=None if record.empty_since is None else moved(record.empty_since),
            ending_since=None if record.ending_since is None else moved(record.ending_since),
            publishers={key: replace(p, seen_at=moved(p.seen_at)) for key, p in record.publishers.items()},
            processes={
                name: replace(process, latest=replace(process.latest, at=moved(process.latest.at)))
                for name, process in record.processes.items()
            },
            servers={name: replace(server, at=moved(server.at)) for name, server in record.servers.items()},
            clock_set_seconds=max(record.clock_set_seconds, min(abs(seconds), 1e11) * clock_set),
        )

    def join(self, asked: JoinRequest, now: float) -> int:
        """Let a publisher in and return the first of its numbers; the same one however often it asks.

        Raises:
            RunFull: too many publishers have joined.
            QueueBenchError: it has joined before, with other numbers.
        """
        publishers = self.record.publishers
        key = f"{asked.process}/{asked.burst}"
        if key not in publishers:
            if len(publishers) >= MOST_PUBLISHERS:
                raise RunFull(
                    f"{MOST_PUBLISHERS:,} publishers have joined the run, which is all that it takes"
                )
            first = max((other.end for other in publishers.values()), default=0)
            joined = PublisherRecord(
                asked.process,
                first,
                asked.messages,
                left=False,
                accepted=[],
                seen_at=now,
                most=asked.most,
                per_second=asked.per_second,
                longest_pause=asked.longest_pause,
                faster=asked.faster,
            )
            if joined.end > MOST_MESSAGES:
                raise RunFull(f"a run takes {MOST_MESSAGES:,} messages, and has {first:,} already")
            publishers[key] = joined
            self.change(ending_since=None)
        if publishers[key].messages != asked.messages and not publishers[key].left:
            raise QueueBenchError(
                f"publisher {key[:80]} has joined with {publishers[key].messages:,} messages before, "
                f"not {asked.messages:,}"
            )
        return publishers[key].first

    def leave(self, asked: LeaveRequest) -> None:
        """Note that a publisher has ended, and what the queue accepted from it.

        Raises:
            RunFull: all that take part have too many ranges.
        """
        publishers = self.record.publishers
        key = f"{asked.process}/{asked.burst}"
        if key in publishers:
            publisher = publishers[key]
            meant = publisher.messages if asked.messages is None else asked.messages
            publishers[key] = replace(publisher, left=True, messages=meant)
            self._make_room(len(asked.accepted) - len(publisher.accepted))
            publishers[key] = replace(publishers[key], accepted=asked.accepted)
            self._accepted = None

    def report(self, report: ProcessReport, now: float, earlier: ProcessReport | None = None) -> None:
        """Take the newest totals of a process; an older report never replaces a newer one.

        Args:
            report: the totals.
            now: Unix seconds.
            earlier: its last report, of before it took part; None: there was none.

        Raises:
            RunFull: too many processes take part, or have too much to tell.
        """
        processes = self.record.processes
        process = processes.get(report.process)
        if process is None:
            if len(processes) >= MOST_PROCESSES:
                raise RunFull(
                    f"{MOST_PROCESSES:,} processes take part in the run, which is all that it takes"
                )
            # What it cost before it began is its start-up, and that of an earlier run is not this one's.
            # One that was silent when the run was opened has done something for it by now.
            baseline = _usage(earlier or report, now)
            if report.started_at >= self.record.started_at:
                baseline = replace(
                    baseline, cpu_seconds=report.startup_cpu_seconds, requests={}, unassigned={}
                )
            process = _known(report, baseline)
        elif report.number <= process.number:
            return
        before, latest = process.latest, _usage(report, now)
        totals = report.runs.get(self.id)
        if totals is not None:
            self._make_room(totals.entries - process.totals.entries)
        moved = totals is not None and totals.counts != process.totals.counts
        if totals is not None and totals.accepted != process.totals.accepted:
            self._accepted = None
        busy, pending = _busy(process, before, latest, moved)
        processes[report.process] = replace(
            process,
            latest=latest,
            number=report.number,
            slots=report.slots,
            ended=report.ended,
            clock=report.clock,
            busy=busy,
            pending=pending,
            totals=process.totals if totals is None else totals,
        )
        publishers = self.record.publishers
        for key, publisher in publishers.items():
            if publisher.process == report.process:
                publishers[key] = replace(publisher, seen_at=now)

    def _make_room(self, more: int) -> None:
        if self._entries is None:
            record = self.record
            self._entries = sum(process.totals.entries for process in record.processes.values())
            self._entries += sum(len(publisher.accepted) for publisher in record.publishers.values())
        if more > 0 and self._entries + more > MOST_ENTRIES:
            raise RunFull(f"the run has {MOST_ENTRIES:,} ranges and buckets, which is all that it takes")
        self._entries += more

    def accepted(self) -> Ranges:
        """Return the numbers that the queue is known to have accepted."""
        if self._accepted is None:
            told = [publisher.accepted for publisher in self.record.publishers.values()]
            told += [process.totals.accepted for process in self.record.processes.values()]
            self._accepted = Ranges(sorted(chain.from_iterable(told)))
        return self._accepted

    def count(self, name: Count) -> int:
        """Return one of the counts, over all processes."""
        return sum(process.totals.counts.get(name, 0) for process in self.record.processes.values())

    def delivered(self) -> int:
        """Return how many have arrived, as far as anybody knows."""
        tally = self.record.tally
        return tally.distinct if tally.proven else self.count(Count.PUSHED)

    def publishers_ended(self, now: float) -> bool:
        """Tell whether every publisher has left or is dead."""
        return all(p.left or now - p.seen_at > GONE_SECONDS for p in self.record.publishers.values())

    def a_publisher_died(self) -> bool:
        """Tell whether one ended without saying what was accepted."""
        return not all(publisher.left for publisher in self.record.publishers.values())

    def missing(self) -> Ranges:
        """Return the accepted numbers that have neither arrived nor become a dead letter."""
        record = self.record
        return self.accepted() - (Ranges(record.tally.arrived) | Ranges(record.dead_letters.numbers))

    def looks_complete(self, now: float) -> bool:
        """Tell, by counts alone, whether it is worth a look at the sets."""
        if not self.publishers_ended(now):
            return False
        return self.delivered() + self.record.dead_letters.count >= len(self.accepted())

    def see(
        self,
        tally: Tally,
        dead_letters: DeadLettered,
        servers: Mapping[str, ServerRecord],
        peaks: Mapping[str, int],
        measuring_requests: dict[str, int],
    ) -> None:
        """Take what a look at the servers and the endpoint has found."""
        record = self.record
        self.change(
            tally=tally,
            dead_letters=dead_letters,
            servers={**record.servers, **servers},
            peaks={place: max(record.peaks.get(place, 0), peak) for place, peak in peaks.items()},
            measuring_requests=measuring_requests,
        )

    def judge(self, now: float, empty: bool | None) -> Ending | None:
        """Return how the run ended, or None while it goes on.

        Args:
            now: Unix seconds.
            empty: whether queue, in-flight and Celery hold nothing; None: not known.
        """
        record = self.record
        moved = [
            *map(self.count, (Count.PUBLISHED, Count.RECEIVED, Count.PUSHED, Count.RETRIED)),
            record.tally.distinct,
            record.tally.duplicates,
            record.dead_letters.count,
        ]
        if moved != record.moved:
            self.change(moved=moved, moved_at=now)
        since = record.empty_since if record.empty_since is not None else now
        self.change(empty_since=since if empty else None)
        record = self.record
        still = now - record.moved_at
        arrived = self.looks_complete(now) and (not record.tally.proven or not self.missing())
        enough = self.empty_seconds
        # Counts that lag have to be empty all the while; the others, at the end.
        emptied = empty and (enough == EMPTY_SECONDS or now - since >= enough)
        # What a dead publisher had sent without an answer may still be on its way.
        if arrived and (emptied or not self.a_publisher_died()):
            return Ending.COMPLETE
        if self.publishers_ended(now) and emptied and still >= enough:
            return Ending.LOST
        if still >= self.stuck_seconds:
            return Ending.NOT_FINISHED
        return None

    def close(self, now: float, how: Ending) -> None:
        """End the run."""
        processes = {
            name: replace(process, gone=not process.ended and now - process.latest.at > GONE_SECONDS)
            for name, process in self.record.processes.items()
        }
        self.change(ended_at=now, ended=how, processes=processes)
        self._note_missing()

    def correct(self, tally: Tally, dead_letters: DeadLettered) -> None:
        """Take what arrived until now; a run that is over is complete where nothing is missing after all."""
        self.change(tally=tally, dead_letters=dead_letters)
        self._note_missing()
        record = self.record
        found = tally.proven and not record.tally.missing
        if found and (record.ended is Ending.LOST or not self.a_publisher_died()):
            self.change(ended=Ending.COMPLETE if record.ended is not Ending.SET_ASIDE else record.ended)

    def _note_missing(self) -> None:
        tally = self.record.tally
        self.change(tally=replace(tally, missing=self.missing().to_json() if tally.proven else []))


def _known(report: ProcessReport, baseline: Usage) -> ProcessRecord:
    """Return what is kept of a process; `baseline` is how it stood when its part in the run began."""
    return ProcessRecord(
        role=report.role,
        host=report.host,
        slots=report.slots,
        cores=report.cores,
        ended=report.ended,
        clock=report.clock,
        startup_cpu_seconds=report.startup_cpu_seconds,
        baseline=baseline,
        latest=baseline,
    )


def _usage(report: ProcessReport, now: float) -> Usage:
    return Usage(
        at=now,
        now=report.now,
        cpu_seconds=report.cpu_seconds,
        machine_cpu_seconds=report.machine_cpu_seconds,
        max_rss_mib=report.max_rss_mib,
        requests=report.requests,
        unassigned=report.unassigned,
    )


def _busy(process: ProcessRecord, before: Usage, latest: Usage, moved: bool) -> tuple[Busy, Busy | None]:
    """Return the busy time so far, and what is kept back of it.

    The first and the last interval of a spell of work are partly idle, so each one is kept back
    until it is known that work goes on, and the first is dropped.
    """
    if not moved:
        return process.busy, None
    if process.pending is None:
        return process.busy, Busy()
    machine, machine_before = latest.machine_cpu_seconds, before.machine_cpu_seconds
    interval = Busy(
        max(0.0, latest.now - before.now),
        max(0.0, latest.cpu_seconds - before.cpu_seconds),
        0.0 if machine is None or machine_before is None else max(0.0, machine - machine_before),
    )
    return process.busy + process.pending, interval
