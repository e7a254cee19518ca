"""Runs side by side in a terminal or a log."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from queuebench.figures import comparison, planner

# A log has no width of its own.
LOG_COLUMNS = 120
COLOURS = {"valid": "green", "invalid": "bold red", "lost": "bold red", "running": "yellow"}


def show(
    summaries: Sequence[Mapping[str, Any]],
    target: int = planner.DEFAULT_TARGET,
    hours: float = planner.DEFAULT_HOURS,
    file: TextIO | None = None,
) -> int:
    """Print runs side by side, with what they answer; return 0 where all are valid and lossless, else 1."""
    out = file or sys.stdout
    width = None if out.isatty() else LOG_COLUMNS
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    if not summaries:
        console.print("no runs")
        return 1
    groups = comparison.group(summaries)
    for summary in summaries:
        kind, text = comparison.verdict(summary)
        console.print(Text(f"{summary['run_id']} ({summary['label']}): {text}", style=COLOURS[kind]))
        for warning in summary["warnings"]:
            console.print(Text(f"  warning: {warning}", style="yellow"))
    console.print()
    console.print(_table(groups))
    for group in groups:
        console.print()
        console.print(Text(group.name, style="bold"))
        console.print(Text(f"  bottleneck  {group.bottleneck}"))
        answer = comparison.how_many(group, target, hours)
        if answer is None:
            console.print(Text("  how many    too little was measured to tell"))
            continue
        console.print(Text(f"  how many    {answer['text']}"))
        for line in answer["arithmetic"]:
            console.print(Text(f"              {line}", style="dim"))
    for note in notes(groups):
        console.print()
        console.print(Text(note, style="dim"))
    return comparison.exit_code(summaries)


def notes(groups: Sequence[comparison.Group]) -> list[str]:
    """Return what has to be said beside the figures."""
    found = [
        "Prices: "
        + str(groups[0].middle["cost"]["source"])
        + ". Celery's broker, which both queues need, is not in it."
    ]
    if any(len(group.runs) > 1 for group in groups):
        found.append(
            "Where runs were repeated: the median, and from the least to the most, of those that are valid; "
            "counts are of all."
        )
    if any(group.middle["local"] for group in groups):
        found.append(
            "local SQS is a server of this project, not AWS: its latency and quotas are modelled on "
            "AWS's, its speed is this machine's, and its costs are what AWS would bill for the same requests."
        )
    return found


def _table(groups: Sequence[comparison.Group]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for group in groups:
        table.add_column(Text(group.name), justify="right", overflow="fold")
    section = ""
    for row in comparison.rows(groups):
        if row.section != section:
            section = row.section
            table.add_row(Text(section, style="bold"))
        cells = [cell.text + (f"  ({cell.spread})" if cell.spread else "") for cell in row.cells]
        table.add_row(Text(f"  {row.name}"), *map(Text, cells))
    return table
