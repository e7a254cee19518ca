"""The folder of results: records of runs, their series and summaries. Each file is replaced in one step.

A file that cannot be written or read is said once and stops nothing: a run is judged without it.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from queuebench.errors import QueueBenchError
from queuebench.measuring import series
from queuebench.measuring.records import RunRecord, decode, encode
from queuebench.measuring.series import Point
from queuebench.plumbing import files
from queuebench.plumbing.printable import safe_text

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MOST_SERIES = 16  # read and thinned series that are kept at hand
MOST_RECORD_BYTES = 256 * 2**20
MOST_SAID = 100
REASON, MOST_REASON_BYTES = "set-aside.txt", 65_536


class Files:
    """The results on disk; safe to use from several threads.

    Bounded: 16 series of 600 points, a record of 256 MiB, 100 files that cannot be written.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        try:
            results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QueueBenchError(
                f"the results folder {results} cannot be made: {error.strerror}; name another with --results"
            ) from None
        self._lock = threading.Lock()
        self._written: dict[str, int] = {}
        self._series: OrderedDict[str, tuple[tuple[int, int], list[Point]]] = OrderedDict()
        self._said: OrderedDict[Path, str] = OrderedDict()

    def folder(self, run_id: str) -> Path | None:
        """Return a run's folder; None where the id, which may come from a URL, cannot be one."""
        return self.results / run_id if RUN_ID.fullmatch(run_id) else None

    def write_record(self, record: RunRecord, version: int) -> bool:
        """Keep a run's record, unless a later version of it is kept already; False: it can't be written."""
        data = encode(record)
        with self._lock:
            if version <= self._written.get(record.run_id, -1):
                return True
            path = self.results / record.run_id / "run.json"
            if not self._done(path, lambda: files.replace(path, data + b"\n")):
                return False
            self._written = {record.run_id: version}
        return True

    def write_summary(self, run_id: str, data: bytes) -> bool:
        """Keep a run's summary; False: it can't be written."""
        path = self.results / run_id / "summary.json"
        return self._done(path, lambda: files.replace(path, data + b"\n"))

    def append_point(self, run_id: str, point: Point) -> bool:
        """Add a second to a run's series; False: it can't be written."""
        path = self.results / run_id / "series.jsonl"
        return self._done(path, lambda: files.append(path, encode(point) + b"\n"))

    def _done(self, path: Path, write: Callable[[], None]) -> bool:
        """Write a file; where that fails say so once, and go on."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write()
        except OSError as error:
            why = error.strerror or type(error).__name__
            if self._said.get(path) != why:
                self._said[path] = why
                if len(self._said) > MOST_SAID:
                    self._said.popitem(last=False)
                said = f"monitor: {path} can't be written, and the run goes on without it: {why}"
                print(safe_text(said), file=sys.stderr, flush=True)
            return False
        if self._said.pop(path, None):
            print(safe_text(f"monitor: {path} is written again"), file=sys.stderr, flush=True)
        return True

    def points(self, run_id: str) -> Sequence[Point]:
        """Return a run's series as a chart takes it; a file that did not change is not read again."""
        folder = self.folder(run_id)
        if folder is None:
            return []
        path = folder / "series.jsonl"
        try:
            stat = path.stat()
        except OSError:
            return []
        changed = stat.st_mtime_ns, stat.st_size
        with self._lock:
            known = self._series.get(run_id)
        if known is None or known[0] != changed:
            known = changed, series.read(path).points()
        with self._lock:
            self._series[run_id] = known
            self._series.move_to_end(run_id)
            while len(self._series) > MOST_SERIES:
                self._series.popitem(last=False)
        return known[1]

    def unfinished(self) -> list[RunRecord]:
        """Return the records of runs without a summary; one that cannot be read is set aside."""
        found = []
        for path in sorted(self.results.glob("*/run.json")):
            try:
                if path.with_name("summary.json").is_file():
                    continue
                record = decode(files.read(path, MOST_RECORD_BYTES), RunRecord, str(path))
                if record.run_id != path.parent.name:
                    raise QueueBenchError(f"{path} is the record of another run, {record.run_id[:80]!r}")
                record.used  # noqa: B018 - what figures are made with has to be there
                found.append(record)
            except (QueueBenchError, ValueError, OSError) as error:
                self.set_aside(path.parent.name, str(error))
        return found

    def reason(self, run_id: str) -> str | None:
        """Return why a run was set aside; None: it was not."""
        folder = self.folder(run_id)
        if folder is None:
            return None
        with contextlib.suppress(OSError):
            return files.read(folder / REASON, MOST_REASON_BYTES).decode(errors="replace").strip()
        return None

    def set_aside(self, run_id: str, reason: str) -> None:
        """Put a run's record out of the way, with the reason beside it."""
        folder, reason = self.results / run_id, safe_text(reason)
        print(f"monitor: run {run_id} is set aside: {reason}", file=sys.stderr, flush=True)
        try:
            (folder / "run.json").replace(folder / "run.json.set-aside")
            (folder / REASON).write_text(reason + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            print(f"monitor: {folder}: {error.strerror}", file=sys.stderr, flush=True)
