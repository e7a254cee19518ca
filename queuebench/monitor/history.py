"""Earlier runs, from the summaries on disk; each is read once."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from queuebench.figures.records import Summary, read_summary
from queuebench.measuring.records import FormatError
from queuebench.monitor.files import RUN_ID
from queuebench.report import words

MOST_RUNS = 200


class History:
    """The newest runs of a folder of results."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._known: dict[str, tuple[int, dict[str, Any]]] = {}

    def runs(self) -> list[dict[str, Any]]:
        """Return what a list shows of each run, the newest first; what cannot be read is said once."""
        folders = (entry for entry in self._results.iterdir() if entry.is_dir())
        newest = sorted((folder.name for folder in folders), reverse=True)[:MOST_RUNS]
        found = {}
        for name in newest:
            path = self._results / name / "summary.json"
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime_ns
                known = self._known.get(name)
                if known is None or known[0] != changed:
                    known = (changed, _digest(name, path))
                found[name] = known
        self._known = found
        return [digest for _, digest in found.values() if digest]

    def summary(self, run_id: str) -> Summary | None:
        """Return a run's summary; None: there is none that can be read."""
        # An id comes from a URL, and must not lead out of the folder.
        if not RUN_ID.fullmatch(run_id):
            return None
        path = self._results / run_id / "summary.json"
        with contextlib.suppress(OSError, FormatError):
            return read_summary(path.read_bytes(), str(path))
        return None


def _digest(name: str, path: Path) -> dict[str, Any]:
    try:
        run = read_summary(path.read_bytes(), str(path))
    except FormatError as error:
        print(f"monitor: {words.cut(str(error), 500)}", file=sys.stderr, flush=True)
        return {}
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
