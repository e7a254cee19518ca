"""The page: one HTML file that needs nothing else, as a report or fed by the monitor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from queuebench.figures import comparison, planner
from queuebench.figures.comparison import Group
from queuebench.measuring import series
from queuebench.measuring.series import Point
from queuebench.report.terminal import notes

HERE = Path(__file__).parent
Points = Sequence[Point]


def page_data(
    runs: Sequence[tuple[Mapping[str, Any], Points]],
    target: int = planner.DEFAULT_TARGET,
    hours: float = planner.DEFAULT_HOURS,
) -> dict[str, Any]:
    """Return all that the page shows of some runs: (summary, points of its time series) each."""
    groups = comparison.group([summary for summary, _ in runs])
    number_of = {run["run_id"]: number for number, group in enumerate(groups) for run in group.runs}
    return {
        "generated_at": time.time(),
        "groups": [_group(group, target, hours) for group in groups],
        "rows": [asdict(row) for row in comparison.rows(groups)] if groups else [],
        "runs": [
            {
                "group": number_of[summary["run_id"]],
                "series": series.columns(list(points), summary["started_at"]),
                **_run(summary),
            }
            for summary, points in runs
        ],
        "stages": comparison.STAGES,
        "notes": notes(groups) if groups else [],
    }


def html(data: Mapping[str, Any] | None) -> str:
    """Return the page with its figures inside, or, without any, one that asks the monitor for them."""
    page = (HERE / "page.html").read_text()
    parts = {"style": (HERE / "page.css").read_text(), "script": (HERE / "page.js").read_text()}
    # Within <script>, "</script" and "<!--" would end or change it, whatever the JSON says: so no "<".
    parts["data"] = orjson.dumps(data).decode().replace("<", "\\u003c")
    for name, text in parts.items():
        before, mark, after = page.partition(f"/*{name}*/")
        assert mark, f"page.html has no place for its {name}"
        page = before + text + after
    return page


def write_report(path: Path, data: Mapping[str, Any]) -> None:
    """Write a report in one step, so that nobody meets half of it."""
    beside = path.with_suffix(".tmp")
    beside.write_text(html(data))
    beside.replace(path)


def _group(group: Group, target: int, hours: float) -> dict[str, Any]:
    middle = group.middle
    return {
        "name": group.name,
        "label": middle["label"],
        "local": middle["local"],
        "runs": len(group.runs),
        "bottleneck": group.bottleneck,
        "how_many": comparison.how_many(group, target, hours),
        "cost": middle["cost"],
        "latency_ms": middle["latency_ms"],
        "distribution": {stage: _added(group, stage) for stage in comparison.STAGES},
    }


def _added(group: Group, stage: str) -> list[tuple[float, int]]:
    added: dict[float, int] = {}
    for run in group.runs:
        for end_ms, count in run["distribution"][stage]:
            added[end_ms] = added.get(end_ms, 0) + count
    return sorted(added.items())


def _run(summary: Mapping[str, Any]) -> dict[str, Any]:
    kind, text = comparison.verdict(summary)
    kept = ("run_id", "label", "messages", "started_at", "ended_at", "warnings", "settings", "versions")
    return {
        **{name: summary[name] for name in kept},
        "verdict": kind,
        "verdict_text": text,
        "counts": summary["counts"],
    }
