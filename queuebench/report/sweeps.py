"""A sweep for people: one table, one CSV, and a report with curves and heat maps."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from html import escape

import msgspec
from rich.table import Table
from rich.text import Text

from queuebench.figures import requirement
from queuebench.figures.records import Summary
from queuebench.figures.sweeps import VARIANT, Combination, Sweep
from queuebench.report import words
from queuebench.report.diagrams import Curves, HeatMap, Line, Measured, Square, curves, document, heat_map
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


def page(title: str, combinations: Sequence[Combination]) -> str:
    """Return the report: each figure over the setting that has most values, a line for all else that varies.

    Where two settings have numbers for values there is a heat map too, one for each queue or variant.
    """
    axes = _axes(combinations)
    over = max(
        (name for name in axes if len(axes[name]) > 1), key=lambda name: _weight(axes[name]), default=""
    )
    fragments = [_what_was_run(combinations)]
    for figure, path in COLUMNS.items():
        if not over or not any(each.figures(path) for each in combinations):
            continue
        unit = requirement.unit_of(path)
        groups = _grouped(combinations, [name for name in axes if name != over])
        lines = [
            Line(
                name or "all runs",
                [Measured(each.values[over], each.figures(path), _flaws(each)) for each in several],
                colour,
            )
            for colour, (name, several) in enumerate(groups.items(), 1)
        ]
        fragments.append(curves(Curves(figure, over, lines, unit)))
        rest = [name for name in axes if name != over and len(axes[name]) > 1 and _numeric(axes[name])]
        if rest and _numeric(axes[over]):
            down = max(rest, key=lambda name: len(axes[name]))
            others = _grouped(combinations, [name for name in axes if name not in (over, down)])
            for colour, (name, several) in enumerate(others.items(), 1):
                squares = [
                    Square(each.values[over], each.values[down], each.figures(path), _flaws(each))
                    for each in several
                ]
                shown_name = f"{figure}, {name}" if name else figure
                fragments.append(heat_map(HeatMap(shown_name, over, down, squares, unit, colour)))
    return document(title, fragments)


def _axes(combinations: Sequence[Combination]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for each in combinations for name in each.values)
    return {
        name: list(dict.fromkeys(each.values[name] for each in combinations if name in each.values))
        for name in names
    }


def _grouped(combinations: Sequence[Combination], names: Sequence[str]) -> dict[str, list[Combination]]:
    groups: dict[str, list[Combination]] = {}
    for each in combinations:
        told = [
            each.values[name] if name in (VARIANT, "QUEUE") else f"{name}={each.values[name]}"
            for name in names
        ]
        groups.setdefault(", ".join(told), []).append(each)
    return groups


def _numeric(values: Sequence[str]) -> bool:
    return all(value.replace(".", "", 1).isdecimal() for value in values)


def _weight(values: Sequence[str]) -> tuple[bool, int]:
    return _numeric(values), len(values)


def _flaws(each: Combination) -> str:
    return _runs(each) if _bad(each) else ""


def _what_was_run(combinations: Sequence[Combination]) -> str:
    names = list(_axes(combinations))
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in [*names, "runs"])
    cells = [
        [*(each.values.get(name, "") for name in names), "; ".join([_runs(each), *each.failed])]
        for each in combinations
    ]
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(words.cut(text))}</td>' for text in row)}</tr>" for row in cells
    )
    return (
        "<p>Medians of the runs that are valid; the spread is from the least to the most of them.</p>"
        f"<details><summary>What was run</summary><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


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
    text = words.figure(middle, requirement.unit_of(path))
    spread = (max(values) - min(values)) / 2.0
    return f"{text} ±{spread / middle:.0%}" if spread and middle else text


def _runs(each: Combination) -> str:
    parts = [f"{len(each.counted)} valid"] if each.counted else []
    parts += [f"{each.invalid} NOT VALID"] if each.invalid else []
    parts += [f"{len(each.failed)} failed"] if each.failed else []
    return ", ".join(parts) or "not run yet"


def _bad(each: Combination) -> bool:
    return bool(each.invalid or each.failed or not each.counted)
