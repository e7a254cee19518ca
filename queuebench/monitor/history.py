"""Earlier runs, from the summaries on disk; each is read once. What the disk did not take is in memory."""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from queuebench.figures.records import MOST_SUMMARY_BYTES, Summary, read_summary
from queuebench.measuring.records import FormatError
from queuebench.monitor.files import RUN_ID
from queuebench.plumbing import files
from queuebench.report import words

MOST_RUNS = 200
MOST_UNWRITTEN = 16


class History:
    """The newest runs of a folder of results.

    Bounded: a few lines of each of 200 runs, and 16 summaries that could not be written.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._known: dict[str, tuple[int, dict[str, Any]]] = {}
        self._unwritten: OrderedDict[str, Summary] = OrderedDict()

    def keep(self, summary: Summary) -> None:
        """Keep in memory what could not be written."""
        self._unwritten[summary.run_id] = summary
        if len(self._unwritten) > MOST_UNWRITTEN:
            self._unwritten.popitem(last=False)

    def forget(self, run_id: str) -> None:
        """Let go of what has been written after all."""
        self._unwritten.pop(run_id, None)

    def unwritten(self) -> list[Summary]:
        """Return what is kept in memory alone."""
        return list(self._unwritten.values())

    def runs(self) -> list[dict[str, Any]]:
        """Return what a list shows of each run, the newest first; what cannot be read is said once."""
        found = {}
        for name in self._newest():
            path = self._results / name / "summary.json"
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime_ns
                known = self._known.get(name)
                if known is None or known[0] != changed:
                    known = (changed, _read_digest(name, path))
                found[name] = known
        self._known = found
        digests = {name: digest for name, (_, digest) in found.items() if digest}
        digests |= {summary.run_id: _digest(summary.run_id, summary) for summary in self.unwritten()}
        return [digests[name] for name in sorted(digests, reverse=True)]

    def _newest(self) -> Iterable[str]:
        names: list[str] = []
        with contextlib.suppress(OSError):
            # What has another name than a run's can't be asked for, nor every name be put into JSON.
            names = sorted((path.name for path in self._results.iterdir()), reverse=True)
        found = (name for name in names if RUN_ID.fullmatch(name) and self._has_summary(name))
        return list(islice(found, MOST_RUNS))

    def _has_summary(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return (self._results / name / "summary.json").is_file()
        return False

    def summary(self, run_id: str) -> Summary | None:
        """Return a run's summary; None: there is none that can be read."""
        if (kept := self._unwritten.get(run_id)) is not None:
            return kept
        # An id comes from a URL, and must not lead out of the folder.
        if not RUN_ID.fullmatch(run_id):
            return None
        with contextlib.suppress(OSError, FormatError):
            return _read(self._results / run_id / "summary.json")
        return None


def _read(path: Path) -> Summary:
    return read_summary(files.read(path, MOST_SUMMARY_BYTES), str(path))


def _read_digest(name: str, path: Path) -> dict[str, Any]:
    try:
        return _digest(name, _read(path))
    except (FormatError, OSError) as error:
        why = str(error) if isinstance(error, FormatError) else f"{path} cannot be read: {error.strerror}"
        print(f"monitor: {words.cut(why, 500)}", file=sys.stderr, flush=True)
        return {}


def _digest(name: str, run: Summary) -> dict[str, Any]:
    return {
        "run_id": name,
        "label": words.cut(run.label, words.LONGEST_NAME),
        "started_at": run.started_at,
        "published": run.counts.published,
        "lost": run.counts.lost,
        "push_per_second": run.rates.push,
        "total_seconds": run.seconds.total,
        "bottleneck": words.place(run.bottleneck, words.cut(run.label, words.LONGEST_NAME)),
        "verdict": run.verdict.value,
        "verdict_text": words.verdict(run),
    }
