"""The page: one HTML file that needs nothing else, as a report or fed by the monitor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import orjson

from queuebench.figures import answer, comparison, planner
from queuebench.figures.comparison import Group
from queuebench.figures.limits import RateLimit
from queuebench.figures.records import Summary
from queuebench.measuring import series
from queuebench.measuring.records import Stage
from queuebench.measuring.series import Point
from queuebench.plumbing import files
from queuebench.report import charts, words
from queuebench.report.answer import sentences
from queuebench.report.table import rows

HERE = Path(__file__).parent
LIBRARY_URL = "charts-library.js"  # where the monitor serves it
# Of all runs' series together, so that a report of many does not grow with each run's length.
MOST_POINTS = 20_000
FEWEST_POINTS = 50  # of one run
MOST_SETTINGS = 200  # of one run; each is cut too
Points = Sequence[Point]


def page_data(
    runs: Sequence[tuple[Summary, Points]],
    target: int = planner.DEFAULT_TARGET,
    hours: float = planner.DEFAULT_HOURS,
    limits: Sequence[RateLimit] = (),
) -> dict[str, Any]:
    """Return all that the page shows of some runs: (summary, points of its time series) each."""
    groups = comparison.group([summary for summary, _ in runs])
    number_of = {run.run_id: number for number, group in enumerate(groups) for run in group.runs}
    counted = {run.run_id for group in groups for run in group.counted}
    most = max(FEWEST_POINTS, MOST_POINTS // max(1, len(runs)))
    found = answer.of_runs(groups, limits)
    return {
        "generated_at": time.time(),
        "answer": sentences(found) if found is not None else [],
        "groups": [_group(group, target, hours) for group in groups],
        "rows": [asdict(row) for row in rows(groups)],
        "runs": [
            {
                "group": number_of[run.run_id],
                # Curves are drawn of the runs that the table counts.
                "counted": run.run_id in counted,
                "series": series.columns(_thinned(points, most), run.started_at),
                **_run(run),
            }
            for run, points in runs
        ],
        "stages": {stage.value: name for stage, name in words.STAGES.items()},
        "notes": words.notes(groups),
    }


def html(data: Mapping[str, Any] | None) -> str:
    """Return the page with its figures inside, or, without any, one that asks the monitor for them."""
    text, version = charts.library()
    if data is None:
        library = f'<script src="{LIBRARY_URL}?{version}"></script>'
    else:
        library = f"<script>{text}</script>"
    body = '<p class="quiet">Reading the figures …</p>'
    return filled("queuebench", body, data, library, (HERE / "page.js").read_text(encoding="utf-8"))


def filled(title: str, body: str, data: Any, library: str, script: str) -> str:
    """Return page.html with its places filled; `body` is HTML, `title` text."""
    parts = {
        "title": escape(title),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "body": body,
        # Within <script>, "</script" and "<!--" would end or change it, whatever the JSON says: so no "<".
        "data": orjson.dumps(data).decode().replace("<", "\\u003c"),
        "library": library,
        "script": charts.script() + script,
    }
    made, rest = [], (HERE / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        before, mark, rest = rest.partition(f"/*{name}*/")
        assert mark, f"page.html has no place for its {name}"
        made += [before, text]
    return "".join([*made, rest])


def write_report(path: Path, data: Mapping[str, Any]) -> None:
    """Write a report in one step, so that nobody meets half of it."""
    files.replace(path, html(data).encode())


def _thinned(points: Points, most: int) -> Points:
    """Return at most so many of the points, evenly spaced, the newest always among them."""
    step = -(-len(points) // most)
    return points if step <= 1 else points[::-1][::step][::-1]


def _group(group: Group, target: int, hours: float) -> dict[str, Any]:
    middle, plan = group.middle, group.how_many(target, hours)
    return {
        "name": words.group_name(group),
        "label": words.cut(middle.label, words.LONGEST_NAME),
        "local": middle.local,
        "runs": len(group.runs),
        "bottleneck": words.bottleneck(group.bottleneck, words.cut(middle.label, words.LONGEST_NAME)),
        "how_many": None
        if plan is None
        else {"text": words.plan(plan), "arithmetic": words.arithmetic(plan)},
        "cost": msgspec.to_builtins(middle.cost),
        "latency_ms": {stage.value: msgspec.to_builtins(middle.latency(stage)) for stage in words.STAGES},
        "distribution": {stage.value: _added(group, stage) for stage in words.STAGES},
    }


def _added(group: Group, stage: Stage) -> list[tuple[float, int]]:
    added: dict[float, int] = {}
    for run in group.counted:
        for end_ms, count in run.distribution.get(stage, []):
            added[end_ms] = added.get(end_ms, 0) + count
    return sorted(added.items())


def _run(run: Summary) -> dict[str, Any]:
    shown = list(run.settings.items())[:MOST_SETTINGS]
    return {
        "run_id": run.run_id,
        "label": words.cut(run.label, words.LONGEST_NAME),
        "messages": run.messages,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "settings": {words.cut(name): words.cut(words.setting(value)) for name, value in shown},
        "versions": {
            words.cut(name): words.cut(text) for name, text in list(run.versions.items())[:MOST_SETTINGS]
        },
        "verdict": run.verdict.value,
        "verdict_text": words.verdict(run),
        "warnings": [words.remark(found) for found in run.remarks],
        "counts": msgspec.to_builtins(run.counts),
    }
