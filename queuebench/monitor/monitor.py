"""The monitor: opens and closes runs, keeps the newest totals of each process, writes the results.

It is not on the way of any message. It may be killed and started again: the record of an open run
is on disk, the broker knows which one is its own, and the processes send their totals again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from queuebench.errors import QueueError
from queuebench.figures.records import Summary, read_summary
from queuebench.figures.summary import summarise
from queuebench.measuring import series
from queuebench.measuring.records import (
    Count,
    Ending,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    ProcessReport,
    RunRecord,
    Tally,
    used_settings,
)
from queuebench.measuring.run import Run
from queuebench.measuring.series import Point, Series
from queuebench.monitor import prometheus
from queuebench.monitor.files import Files
from queuebench.monitor.history import History
from queuebench.monitor.probing import Probe
from queuebench.monitor.state import NotYetKnown, Opening, State
from queuebench.monitor.versions import versions
from queuebench.plumbing.printable import safe_text
from queuebench.report import words
from queuebench.report.page import html, page_data, write_report
from queuebench.settings import Settings

RATE_POINTS = 6  # over which the rates of an open run are taken
# A run in which messages were missing is looked at again for so long: they may only have been late.
WATCH_SECONDS, WATCH_EVERY_SECONDS = 1800.0, 5.0
MOST_WATCHED = 4
TRIES_TO_JUDGE = 3


class Monitor:
    """Runs, and what is known of the processes. Only `tick` and the opening of a run ask a server."""

    def __init__(self, settings: Settings, results: Path) -> None:
        self._settings = settings
        self._files = Files(results)
        self._history = History(results)
        self._probe = Probe(settings)
        self._probe.check()
        self._probing = threading.Lock()  # held over I/O, and so by nobody who only wants to know
        self._watched: deque[Run] = deque(maxlen=MOST_WATCHED)
        self._watch_at = 0.0
        self._failures = 0
        self.state = State(self._left_open())

    def _left_open(self) -> list[RunRecord]:
        """Return the runs that have not ended; one that was killed before its summary's last line gets it."""
        left_open = []
        for record in self._files.unfinished():
            if record.ended_at is None:
                left_open.append(record)
            else:
                try:
                    self._write_results(record)
                except Exception as error:
                    self._files.set_aside(record.run_id, f"it cannot be summarised: {error!r}")
        return left_open

    def report(self, report: ProcessReport) -> str | None:
        """Take the newest totals of a process; return the run that is open.

        Raises:
            QueueError: it is not known yet whether a run is open.
        """
        return self.state.report(report)

    def join(self, asked: JoinRequest) -> JoinAnswer:
        """Let a publisher into the open run, or open one.

        Raises:
            FormatError: its settings lack what figures are made with.
            QueueError: it is not known yet whether a run is open.
        """
        used_settings(asked.settings, "the request to join")
        joined = self.state.join(asked)
        if joined is None:
            with self._probing:
                if self.state.open_run() is None:
                    opening = self._opening(asked)
                    self.state.open(opening, self._probe.begin())
                    self._probe.note(opening.run_id)
            joined = self.state.join(asked)
        if joined is None:
            raise NotYetKnown("the run ended while it was joined: join again")
        answer, record, version = joined
        self._files.write_record(record, version)
        return answer

    def leave(self, run_id: str, asked: LeaveRequest) -> None:
        """Note that a publisher has ended.

        Raises:
            QueueError: it is not known yet whether a run is open.
        """
        kept = self.state.leave(run_id, asked)
        if kept is not None:
            self._files.write_record(*kept)

    def progress(self, run_id: str) -> dict[str, Any] | None:
        """Return how far a run is, with its summary when it is over; None: no such run.

        Raises:
            QueueError: it is not known yet whether a run is open.
        """
        current = self.state.current()
        if current is not None and current[0].run_id == run_id:
            record, points = current
            return how_far(Run(record), points[-RATE_POINTS:])
        summary = self._history.summary(run_id)
        if summary is None:
            return None
        counts = summary.counts
        return {
            "accepted": counts.published,
            "delivered": counts.delivered,
            "summary": words.written(summary),
        }

    def why_not(self, run_id: str) -> str:
        """Return why nothing is known of a run."""
        reason = self._files.reason(run_id)
        return "no such run" if reason is None else f"the run was set aside: {reason}"

    def page(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return what the page shows of some runs; of the open or else the newest one where none is named."""
        earlier = self._history.runs()
        open_id = self.state.open_run()
        newest = open_id or (earlier[0]["run_id"] if earlier else None)
        found = self._found(list(run_ids) or ([newest] if newest else []))
        return {
            **page_data(found),
            "open": open_id,
            "shown": [summary.run_id for summary, _ in found],
            "history": earlier,
        }

    def metrics(self) -> bytes:
        """Return the open or else the newest run's figures as Prometheus reads them."""
        newest = self.state.open_run() or next((run["run_id"] for run in self._history.runs()), None)
        for summary, points in self._found([newest] if newest else []):
            is_open = summary.ended is None and points
            return prometheus.exposition(summary, points[-1] if is_open else None)
        return prometheus.exposition(None, None)

    def report_html(self, run_ids: Sequence[str]) -> str:
        """Return some runs as a page that needs no monitor."""
        return html(page_data(self._found(run_ids)))

    def _current(self) -> tuple[RunRecord, list[Point]] | None:
        with contextlib.suppress(NotYetKnown):
            return self.state.current()
        return None

    def _found(self, run_ids: Sequence[str]) -> list[tuple[Summary, Sequence[Point]]]:
        """Return the figures of each run that there is; one that cannot be shown hides no other."""
        found = []
        for run_id in run_ids:
            try:
                figures = self._figures(run_id)
            except Exception as error:
                print(
                    safe_text(f"monitor: run {run_id!a} cannot be shown: {error!r}"),
                    file=sys.stderr,
                    flush=True,
                )
                continue
            if figures is not None:
                found.append(figures)
        return found

    def _figures(self, run_id: str) -> tuple[Summary, Sequence[Point]] | None:
        current = self._current()
        if current is not None and current[0].run_id == run_id:
            return summarise(current[0]), current[1]
        summary = self._history.summary(run_id)
        return None if summary is None else (summary, self._files.points(run_id))

    def tick(self) -> None:
        """Look at the servers, and close the run where it is over."""
        with self._probing:
            if self.state.undecided:
                self._resume()
            current = self._current()
            if current is None:
                self._look_after_the_ended()
                return
            record = current[0]
            try:
                self._judge(record)
                self._failures = 0
            except QueueError:
                raise
            except Exception as error:
                # A run that cannot be judged must not be in the way of all that follow.
                self._failures += 1
                if self._failures < TRIES_TO_JUDGE:
                    raise
                self._failures = 0
                self._give_up(record.run_id, f"it cannot be judged: {error!r}")

    def _resume(self) -> None:
        try:
            noted = self._probe.noted_run()
        except QueueError:
            return
        folder = self._files.folder(noted or "")
        self.state.resume(noted, Series() if folder is None else series.read(folder / "series.jsonl"))

    def _judge(self, record: RunRecord) -> None:
        sample = self._probe.look(record)
        tally = sample.tally
        if tally.proven and self.state.looks_complete():
            tally = self._probe.tally(record.run_id, tally, numbers=True)
        verdict = self.state.judge(record.run_id, sample, tally)
        if verdict is None:
            return
        self._files.append_point(record.run_id, verdict.point)
        self._files.write_record(verdict.record, verdict.version)
        if verdict.over:
            try:
                self._ended(verdict.record)
            except QueueError:
                raise
            except Exception as error:
                self._files.set_aside(record.run_id, f"it cannot be summarised: {error!r}")
            finally:
                self.state.finish(record.run_id)

    def _ended(self, record: RunRecord) -> None:
        if record.ended is not Ending.COMPLETE and record.tally.proven:
            # Which numbers are missing, now that nothing moves any more.
            run = Run(record)
            run.correct(self._probe.last_word(run.id, record.tally), record.dead_letters)
            record = run.record
            self._files.write_record(record, sys.maxsize)
        self._write_results(record)
        if record.ended in (Ending.LOST, Ending.NOT_FINISHED) or record.tally.proven is None:
            self._watched.append(Run(record))
        print(f"monitor: run {record.run_id} is over: {record.ended}", flush=True)

    def _look_after_the_ended(self) -> None:
        """Correct the record of a run in which messages were missing, where some arrive after all."""
        now = time.time()
        if time.monotonic() < self._watch_at:
            return
        self._watch_at = time.monotonic() + WATCH_EVERY_SECONDS
        for summary in self._history.unwritten():
            self._write_summary(summary)
        for run in list(self._watched):
            before = run.record
            tally = self._probe.tally(run.id, before.tally)
            if _told(tally) != _told(before.tally):
                tally = self._probe.tally(run.id, tally, numbers=True)
                run.correct(tally, self._probe.dead_lettered(before))
                self._files.write_record(run.record, sys.maxsize)
                self._write_results(run.record)
                print(f"monitor: run {run.id}: some arrived late; its record is corrected", flush=True)
            whole = run.record.ended is Ending.COMPLETE and run.record.tally.proven is not None
            if whole or now - (before.ended_at or now) > WATCH_SECONDS:
                self._watched.remove(run)

    def _give_up(self, run_id: str, reason: str) -> None:
        try:
            kept = self.state.set_aside(run_id)
            if kept is not None:
                self._files.write_record(*kept)
        finally:
            # Whatever is wrong with its record may be in the way of this too.
            self.state.finish(run_id)
            self._files.set_aside(run_id, reason)

    def _opening(self, asked: JoinRequest) -> Opening:
        queue = self._settings.queue
        at = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        run_id = f"{at}-{queue.lower()}-{uuid.uuid4().hex[:4]}"
        local = self._settings.aws_endpoint_url_sqs if queue == "SQS" and self._settings.local_sqs else ""
        return Opening(run_id, asked.settings, versions(local), queue, self._settings.queue_label)

    def _write_results(self, record: RunRecord) -> None:
        summary = summarise(record)
        self._write_summary(summary)
        # The figures are safe by now, and what shows them must not be able to stop the monitor.
        try:
            path = self._files.results / record.run_id / "report.html"
            write_report(path, page_data([(summary, self._files.points(record.run_id))]))
        except Exception as error:
            print(
                safe_text(f"monitor: no report of run {record.run_id}: {error!r}"),
                file=sys.stderr,
                flush=True,
            )

    def _write_summary(self, summary: Summary) -> None:
        """Write a summary; what the disk does not take is kept in memory, and tried again."""
        data = msgspec.json.format(msgspec.json.encode(words.written(summary)), indent=2)
        read_summary(data, "its summary")  # what nobody could read again must not pass for one
        if self._files.write_summary(summary.run_id, data):
            self._history.forget(summary.run_id)
        else:
            self._history.keep(summary)


def _told(tally: Tally) -> tuple[bool | None, int, int]:
    return tally.proven, tally.distinct, tally.duplicates


def how_far(run: Run, points: Sequence[Point]) -> dict[str, Any]:
    """Return how far an open run is: counts, what waits where, rates, and how long it still takes.

    Args:
        run: the run.
        points: the newest of its series, over which the rates are taken.
    """
    accepted, delivered = len(run.accepted()), run.delivered()
    dead = run.record.dead_letters.count
    first, last = (points[0], points[-1]) if points else (Point(0.0), Point(0.0))
    seconds = last.at - first.at

    def rate(before: int, after: int) -> float:
        return max(0, after - before) / seconds if seconds > 0 else 0.0

    rates = {
        Count.PUBLISHED: rate(first.published, last.published),
        Count.RECEIVED: rate(first.received, last.received),
        "delivered": rate(first.delivered, last.delivered),
    }
    publishers = run.record.publishers.values()
    # Some do not know how many come, and some are wrong about what chance makes.
    messages = max(accepted, sum(publisher.messages for publisher in publishers))
    left = max(0, messages - delivered - dead)
    return {
        "accepted": accepted,
        "delivered": delivered,
        "messages": messages,
        "asked": sum(publisher.per_second for publisher in publishers),
        "queue": last.queue.total if last.queue else None,
        "celery": last.celery.total if last.celery else None,
        "dead_letters": dead,
        "rates": rates,
        "seconds_left": left / rates["delivered"] if rates["delivered"] else None,
        "summary": None,
    }
