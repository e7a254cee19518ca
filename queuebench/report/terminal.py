"""Runs side by side in a terminal or a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from queuebench.figures import answer as which
from queuebench.figures import comparison, planner, requirement
from queuebench.figures.comparison import Group
from queuebench.figures.limits import RateLimit
from queuebench.figures.records import Scope, Summary, Verdict
from queuebench.figures.regression import Change
from queuebench.figures.requirement import Requirement
from queuebench.report import words
from queuebench.report.answer import sentences
from queuebench.report.table import Row, rows

# A log has no width of its own.
LOG_COLUMNS = 120
# What the names of the figures, and each group, need beside one another.
NAME_COLUMNS, GROUP_COLUMNS = 34, 17
COLOURS = {
    Verdict.VALID: "green",
    Verdict.INVALID: "bold red",
    Verdict.LOST: "bold red",
    Verdict.RUNNING: "yellow",
}


def show(
    summaries: Sequence[Summary],
    target: int = planner.DEFAULT_TARGET,
    hours: float = planner.DEFAULT_HOURS,
    requirements: Sequence[Requirement] = (),
    limits: Sequence[RateLimit] = (),
    file: TextIO | None = None,
) -> int:
    """Print runs side by side, with what they answer.

    Returns:
        0 where all are valid, lossless and meet the requirements, else 1.
    """
    console = console_of(file)
    if not summaries:
        console.print("no runs")
        return 1
    groups = comparison.group(summaries)
    found_answer = which.of_runs(groups, limits)
    for number, line in enumerate(sentences(found_answer) if found_answer is not None else ()):
        console.print(Text(line, style="" if number else "bold"))
    if found_answer is not None:
        console.print()
    for run in summaries:
        name = f"{words.cut(run.run_id, 60)} ({words.cut(run.label, 60)})"
        console.print(Text(f"{name}: {words.verdict(run)}", style=COLOURS[run.verdict]))
        for found in run.remarks:
            console.print(Text(f"  warning: {words.remark(found)}", style="yellow"))
    code = max(comparison.exit_code(summaries), _show_required(summaries, requirements, console))
    table, at_once = rows(groups), max(1, (console.width - NAME_COLUMNS) // GROUP_COLUMNS)
    for first in range(0, len(groups), at_once):
        console.print()
        console.print(_table(groups, table, first, first + at_once))
    for group in groups:
        console.print()
        console.print(Text(words.group_name(group), style="bold"))
        console.print(Text(f"  bottleneck  {words.bottleneck(group.bottleneck, group.middle.label)}"))
        if group.middle.scope is Scope.QUEUE:
            continue
        answer = group.how_many(target, hours)
        if answer is None:
            console.print(Text("  how many    too little was measured to tell"))
            continue
        console.print(Text(f"  how many    {words.plan(answer)}"))
        for line in words.arithmetic(answer):
            console.print(Text(f"              {line}", style="dim"))
    for note in words.notes(groups):
        console.print()
        console.print(Text(note, style="dim"))
    return code


def console_of(file: TextIO | None) -> Console:
    """Return what prints to a terminal, or to a log of a fixed width."""
    out = file or sys.stdout
    width = None if out.isatty() else LOG_COLUMNS
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def _show_required(
    summaries: Sequence[Summary], requirements: Sequence[Requirement], console: Console
) -> int:
    """Print which requirements each run meets; return 1 where one is not met."""
    code = 0
    for run in summaries if requirements else ():
        console.print()
        console.print(
            Text(f"required of {words.cut(run.run_id, 60)} ({words.cut(run.label, 60)})", style="bold")
        )
        for outcome in requirement.check(requirements, run):
            code = code if outcome.met else 1
            console.print(Text(f"  {words.outcome(outcome)}", style="green" if outcome.met else "bold red"))
    return code


def show_worse(worse: Sequence[Change], share: float, file: TextIO | None = None) -> int:
    """Print which figures became worse than a baseline; return 1 where there are any."""
    console = console_of(file)
    console.print()
    if not worse:
        console.print(Text(f"no figure is more than {100 * share:g}% worse than the baseline", style="green"))
    for change in worse:
        console.print(Text(f"worse: {words.change(change)}", style="bold red"))
    return 1 if worse else 0


def _table(groups: Sequence[Group], table: Sequence[Row], first: int, end: int) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("")
    for group in groups[first:end]:
        shown.add_column(Text(words.group_name(group)), justify="right", overflow="fold")
    section = ""
    for row in table:
        if row.section != section:
            section = row.section
            shown.add_row(Text(section, style="bold"))
        cells = [cell.text + (f"  ({cell.spread})" if cell.spread else "") for cell in row.cells[first:end]]
        shown.add_row(Text(f"  {row.name}"), *map(Text, cells))
    return shown
