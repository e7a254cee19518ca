"""`queuebench report RUN RUN…`: any runs side by side, in the terminal and as one HTML file.

With `--worse 10%` the first RUN is the baseline (several with commas between: A,B,C), and the exit code
is 1 where a figure of the others is worse than that, beyond its spread.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from queuebench.errors import QueueBenchError
from queuebench.figures import comparison, planner, regression, requirement
from queuebench.figures.limits import RateLimit
from queuebench.figures.records import MOST_SUMMARY_BYTES, Summary, read_summary
from queuebench.figures.requirement import Requirement
from queuebench.measuring import series
from queuebench.plumbing import files
from queuebench.report.page import page_data, write_report
from queuebench.report.terminal import show, show_worse

MOST_RUNS = 50  # side by side


class ReportError(QueueBenchError):
    """A run cannot be read, or a report not be written."""


def main(argv: list[str]) -> int:
    """Print and write the comparison; return 0 where all are valid, lossless and as required, else 1.

    Raises:
        ReportError: there is no such run, or it cannot be read, or the report not be written.
        FormatError: its summary is of another format, or none.
    """
    parser = argparse.ArgumentParser(prog="python -m queuebench report", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's id, or its folder")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where runs are looked for")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the HTML (default: beside the last run)")
    parser.add_argument("--target", type=_target, default=planner.DEFAULT_TARGET, help="messages to plan")
    parser.add_argument("--hours", type=_hours, default=planner.DEFAULT_HOURS, help="… and in how long")
    requirement.add_option(parser, "what every run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'")
    parser.add_argument(
        "--worse", type=_share, metavar="SHARE", help="how much worse than the first RUN: 10%%"
    )
    options = parser.parse_intermixed_args(_joined(argv))
    requirements = [requirement.parse(text) for text in options.require]
    named = [[find(options.results, name) for name in run.split(",") if name] for run in options.runs]
    folders = list(dict.fromkeys(folder for several in named for folder in several))
    if options.worse is not None and len(named) < 2:
        raise ReportError("--worse compares: name the baseline first, and then the runs to compare with it")
    if len(folders) > MOST_RUNS:
        raise ReportError(f"{len(folders)} runs are too many: at most {MOST_RUNS} fit side by side")
    worse = None if options.worse is None else (len(named[0]), options.worse)
    return report(folders, options.target, options.hours, requirements, (), worse, options.output)


def report(
    folders: Sequence[Path],
    target: int = planner.DEFAULT_TARGET,
    hours: float = planner.DEFAULT_HOURS,
    requirements: Sequence[Requirement] = (),
    limits: Sequence[RateLimit] = (),
    worse: tuple[int, float] | None = None,
    output: Path | None = None,
) -> int:
    """Print and write the comparison of some runs.

    Args:
        folders: those of the runs.
        target: messages to plan.
        hours: … and in how long.
        requirements: what every run must meet.
        limits: the highest rates that were found of the same queues.
        worse: how many of the runs are the baseline, and by which share the others may be worse.
        output: where the HTML goes; None: beside the last run.

    Raises:
        ReportError: a run cannot be read or compared, or the report not be written.
    """
    summaries = [read_run(folder) for folder in folders]
    if not comparison.one_scope(summaries):
        raise ReportError(
            "some of these runs are of the queue and its subscribers alone, and have no POST: "
            "they are not compared with whole runs; name them apart"
        )
    code = show(summaries, target, hours, requirements, limits)
    if worse is not None:
        first, share = worse
        code = max(code, show_worse(regression.worse(summaries[:first], summaries[first:], share), share))
    path = output or folders[-1] / ("report.html" if len(folders) == 1 else "comparison.html")
    shown = [
        (run, series.read(folder / "series.jsonl").points())
        for folder, run in zip(folders, summaries, strict=True)
    ]
    try:
        write_report(path, page_data(shown, target, hours, limits))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    print(f"\nreport: {path}")
    return code


def find(results: Path, run: str) -> Path:
    """Return the folder of a run that is named by its id or by its folder.

    Raises:
        ReportError: there is none.
    """
    for folder in (results / run, Path(run)):
        with contextlib.suppress(OSError):  # a name that is too long for a file's
            if (folder / "summary.json").is_file():
                return folder
    known = sorted(path.parent.name for path in results.glob("*/summary.json"))
    last = f"the newest in {results} is {known[-1]}" if known else f"there are none in {results}"
    raise ReportError(f"no run {run!r} with a summary.json: {last}")


def read_run(folder: Path) -> Summary:
    """Return the summary in a run's folder.

    Raises:
        ReportError: it cannot be read.
        FormatError: it is of another format, or none.
    """
    path = folder / "summary.json"
    try:
        data = files.read(path, MOST_SUMMARY_BYTES)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from error
    return read_summary(data, str(path))


def _joined(argv: list[str]) -> list[str]:
    """Return the arguments with `--worse 10 %`, as people write it, in one."""
    joined = list(argv)
    for place in range(len(joined) - 2, 0, -1):
        if joined[place - 1] == "--worse" and joined[place + 1] == "%":
            joined[place : place + 2] = [joined[place] + "%"]
    return joined


def _share(text: str) -> float:
    number = text.replace(" ", "")
    try:
        share = float(number.removesuffix("%")) / (100.0 if number.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text!r}: a share is needed, such as 10% or 0.1")
    return share


def _target(text: str) -> int:
    number = text.replace(",", "").replace("_", "")
    if not number.isdecimal() or not 0 < int(number) <= 10**12:
        raise argparse.ArgumentTypeError(f"{text!r}: a positive whole number is needed")
    return int(number)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: a positive number of hours is needed")
    return hours
