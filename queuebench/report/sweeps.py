"""A sweep for people: one table, one CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from queuebench.figures import requirement
from queuebench.figures.records import Summary
from queuebench.figures.sweeps import Combination, Sweep
from queuebench.report import words
from queuebench.report.terminal import console_of

# What the table shows; the CSV has every figure.
COLUMNS = {
    "publish": ("rates", "publish"),
    "receive": ("rates", "receive"),
    "push": ("rates", "push"),
    "total": ("seconds", "total"),
    "queue wait p99": ("latency_ms", "queue_wait", "p99"),
    "quiet tenants p99": ("latency_ms", "queue_wait_quiet", "p99"),
    "end to end p99": ("latency_ms", "end_to_end", "p99"),
    "queue, per million": ("cost", "queue_usd_per_million"),
}


def show(combinations: Sequence[Combination]) -> int:
    """Print a sweep; return 0 where every run counts, else 1."""
    console = console_of(None)
    names = list(dict.fromkeys(name for each in combinations for name in each.values))
    known = {name: path for name, path in COLUMNS.items() if any(each.figures(path) for each in combinations)}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(Text(name))
    table.add_column("runs", no_wrap=True)
    for name in known:
        table.add_column(name, justify="right")
    for each in combinations:
        cells = [Text(words.cut(each.values.get(name, ""), 30)) for name in names]
        figures = [Text(_figure(each.figures(path), path)) for path in known.values()]
        table.add_row(*cells, Text(_runs(each), style="" if not _bad(each) else "bold red"), *figures)
    console.print()
    console.print(table)
    for each in combinations:
        for failure in each.failed:
            told = ", ".join(f"{name}={value}" for name, value in each.values.items())
            console.print(Text(f"failed: {told}: {words.cut(failure)}", style="bold red"))
    return 1 if any(map(_bad, combinations)) else 0


def table_csv(sweep: Sweep, runs: Mapping[str, Summary]) -> str:
    """Return a CSV with a row a run: what was varied, the verdict, and every figure by its name."""
    figures = requirement.figures()
    paths = [requirement.parse_name(name) for name in figures]
    names = list(dict.fromkeys(name for cell in sweep.cells for name in cell.values))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "repeat", "run", "verdict", "failure", *figures])
    for cell in sweep.cells:
        run = runs.get(cell.run_id or "")
        tree = msgspec.to_builtins(run, str_keys=True) if run is not None else {}
        values = [requirement.figure(tree, path) for path in paths]
        writer.writerow(
            [
                *(_safe(cell.values.get(name, "")) for name in names),
                cell.repeat + 1,
                cell.run_id or "",
                run.verdict.value if run is not None else "",
                _safe(cell.failure),
                *("" if value is None else f"{value:.10g}" for value in values),
            ]
        )
    return out.getvalue()


def _safe(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _figure(values: Sequence[float], path: Sequence[str]) -> str:
    if not values:
        return words.NOTHING
    middle = statistics.median(values)
    text = words.figure(middle, requirement.unit_of(tuple(path)))
    spread = (max(values) - min(values)) / 2.0
    return f"{text} ±{spread / middle:.0%}" if spread and middle else text


def _runs(each: Combination) -> str:
    parts = [f"{len(each.counted)} valid"] if each.counted else []
    parts += [f"{each.invalid} NOT VALID"] if each.invalid else []
    parts += [f"{len(each.failed)} failed"] if each.failed else []
    return ", ".join(parts) or "not run yet"


def _bad(each: Combination) -> bool:
    return bool(each.invalid or each.failed or not each.counted)
