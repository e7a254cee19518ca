"""Earlier runs, from the summaries on disk; each is read once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import orjson

from queuebench.figures import comparison
from queuebench.monitor.files import RUN_ID

MOST_RUNS = 200


class History:
    """The newest runs of a folder of results."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._known: dict[str, tuple[int, dict[str, Any]]] = {}

    def runs(self) -> list[dict[str, Any]]:
        """Return what a list shows of each run, the newest first."""
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

    def summary(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's summary; None: there is none that can be read."""
        # An id comes from a URL, and must not lead out of the folder.
        if not RUN_ID.fullmatch(run_id):
            return None
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            summary = orjson.loads((self._results / run_id / "summary.json").read_bytes())
            return summary if isinstance(summary, dict) and "distribution" in summary else None
        return None


def _digest(name: str, path: Path) -> dict[str, Any]:
    with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
        summary = orjson.loads(path.read_bytes())
        kind, text = comparison.verdict(summary)
        return {
            "run_id": name,
            "label": summary["label"],
            "started_at": summary["started_at"],
            "published": summary["counts"]["published"],
            "lost": summary["counts"]["lost"],
            "push_per_second": summary["rates"]["push"],
            "total_seconds": summary["seconds"]["total"],
            "bottleneck": summary["bottleneck"]["stage"],
            "verdict": kind,
            "verdict_text": text,
        }
    return {}
