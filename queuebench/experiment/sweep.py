"""`queuebench sweep`: every combination of some settings, each a run like any other; then one table.

Stopped and started again, it goes on where it was. What is varied comes from a file, from `--vary`, or both.
"""

from __future__ import annotations

import argparse
import hashlib
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from queuebench import settings as settings_module
from queuebench.bench import fleet
from queuebench.bench.stack import Stack
from queuebench.errors import QueueBenchError, SettingsError
from queuebench.experiment.bench import DEFAULT_MESSAGES, messages_of
from queuebench.figures.records import Summary
from queuebench.figures.sweeps import Cell, Definition, Sweep, combined
from queuebench.measuring.records import FormatError, decode, encode
from queuebench.plumbing import files
from queuebench.plumbing.printable import to_text
from queuebench.report import sweeps as shown
from queuebench.report.cli import ReportError, read_run

KNOWN = ("vary", "variants", "repeats", "messages", "settings", "sqs")
MOST_REPEATS = 100


def main(argv: list[str]) -> int:
    """Run what is left of a sweep and show it; return 0 where every run is valid, 130 where stopped."""
    options = _parser().parse_args(argv)
    definition = _definition(options)
    name = options.name or _name(options.file, definition)
    if not name or "/" in name or name.startswith("."):
        raise SettingsError(f"--name {name!r}: a name for a folder is needed")
    folder = options.results / "sweeps" / name
    sweep = _resume(folder, definition)
    left = sum(1 for _ in sweep.left())
    runs = len(sweep.cells)
    print(f"sweep {name}: {runs:,} runs, {left:,} to be made; kept in {folder}", flush=True)
    with fleet.stopping() as stopped:
        try:
            for done in _run(sweep, options.results, stopped):
                sweep = done
                _keep(folder, sweep)
        except KeyboardInterrupt:
            print(f"sweep {name}: stopped; the same command goes on with it", flush=True)
        return _report(folder, sweep, options.results, stopped.is_set())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m queuebench sweep", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what is varied, as TOML")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="QUEUE, SUBSCRIBERS, WORKERS, or any setting",
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'NAME: A=1 B=2'",
        help="several settings at once, under a name",
    )
    parser.add_argument("--repeats", type=_repeats, metavar="N", help="of each combination (default: 1)")
    parser.add_argument("--messages", help=f"of each run (default: {DEFAULT_MESSAGES}, none with DURATION)")
    parser.add_argument("--name", help="of the folder in results/sweeps (default: told by what is varied)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, for all runs"
    )
    parser.add_argument(
        "--sqs", metavar="OPTIONS", help="options of the local SQS: '--latency 0 --no-quotas'"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="where the results go (%(default)s)"
    )
    return parser


def _definition(options: argparse.Namespace) -> Definition:
    given = _read(options.file) if options.file is not None else {}
    vary = {name: _values(name, values) for name, values in _table(given, "vary").items()}
    vary |= dict(map(fleet.vary, options.vary))
    variants = {name: _variant(name, value) for name, value in _table(given, "variants").items()}
    for text in options.variant:
        name, colon, settings = text.partition(":")
        if not colon or not name.strip():
            raise SettingsError(f"--variant {text!r}: 'NAME: SETTING=VALUE …' is needed")
        variants[name.strip()] = _variant(name.strip(), settings)
    if not vary and not variants:
        raise SettingsError(
            "a sweep needs something to vary: --vary SUBSCRIBERS=1,2,4, a --variant, or a file"
        )
    settings = {name: _text(value) for name, value in _table(given, "settings").items()}
    settings |= fleet.settings_of(options.set)
    fleet.settings_of([f"{name}={value}" for name, value in settings.items()])
    repeats = options.repeats or given.get("repeats", 1)
    if type(repeats) is not int or not 1 <= repeats <= MOST_REPEATS:
        raise SettingsError(f"repeats={repeats!r}: a whole number from 1 to {MOST_REPEATS} is needed")
    messages = options.messages or _text(given.get("messages", ""))
    definition = Definition(
        vary,
        variants,
        repeats,
        messages,
        {"WORKER_SLOTS": fleet.DEFAULT_SLOTS, **settings},
        options.sqs if options.sqs is not None else _text(given.get("sqs", "")),
    )
    for values in definition.combinations():
        chosen = definition.all_settings(values)
        if messages:
            settings_module.bursts(messages)
        # Together they may be wrong where each by itself is not.
        processes = {name: chosen.pop(name, "1") for name in fleet.PROCESSES}
        fleet.queues_of(chosen.get("QUEUE", "REDIS"))
        if not all(map(fleet.is_count, processes.values())):
            raise SettingsError(f"{processes}: whole numbers from 1 to 100 are needed")
        fleet.settings_of([f"{name}={value}" for name, value in chosen.items()])
    return definition


def _read(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(to_text(path.read_bytes()))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    if unknown := [name for name in given if name not in KNOWN]:
        raise SettingsError(f"{path}: {unknown[0]!r} is unknown; known: {', '.join(KNOWN)}")
    return given


def _table(given: dict[str, Any], name: str) -> dict[str, Any]:
    table = given.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{name}: a table is needed: [{name}]")
    return table


def _values(name: str, values: Any) -> list[str]:
    several = values if isinstance(values, list) else [values]
    return fleet.vary(f"{name}={','.join(map(_text, several))}")[1]


def _variant(name: str, given: Any) -> dict[str, str]:
    if isinstance(given, dict):
        pairs = [f"{key}={_text(value)}" for key, value in given.items()]
    else:
        pairs = _text(given).split()
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"variant {name!r}: {pair!r}: NAME=VALUE is needed")
        settings[key] = value
    named = [f"{key}={value}" for key, value in settings.items() if key not in fleet.PROCESSES]
    fleet.settings_of(named)
    return settings


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float):
        return str(value)
    raise SettingsError(f"{value!r}: a text or a number is needed")


def _name(file: Path | None, definition: Definition) -> str:
    digest = hashlib.sha256(encode(definition)).hexdigest()[:8]
    return f"{file.stem if file is not None else 'sweep'}-{digest}"


def _resume(folder: Path, definition: Definition) -> Sweep:
    path = folder / "sweep.json"
    fresh = Sweep(definition, definition.cells())
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        _keep(folder, fresh)
        return fresh
    except OSError as error:
        raise QueueBenchError(f"{path} cannot be read: {error.strerror}") from None
    kept = decode(data, Sweep, str(path))
    if kept.definition != definition or len(kept.cells) != len(fresh.cells):
        raise QueueBenchError(f"{path} is of another sweep: choose another --name")
    return kept


def _keep(folder: Path, sweep: Sweep) -> None:
    path = folder / "sweep.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(path, encode(sweep))
    except OSError as error:
        raise QueueBenchError(f"cannot write {path}: {error.strerror}; choose another --results") from None


def _run(sweep: Sweep, results: Path, stopped: threading.Event) -> Iterator[Sweep]:
    """Make the runs that are left; yield the sweep after each."""
    spent: list[float] = []
    left = list(sweep.left())
    for number, (position, cell) in enumerate(left):
        told = ", ".join(f"{name}={value}" for name, value in cell.values.items())
        remaining = (
            f", about {_minutes(sum(spent) / len(spent) * (len(left) - number))} left" if spent else ""
        )
        print(f"run {number + 1} of {len(left)}{remaining}: {told}", flush=True)
        began = time.monotonic()
        run_id, failure = _cell(sweep.definition, cell, results, stopped)
        spent.append(time.monotonic() - began)
        done = Cell(cell.values, cell.repeat, run_id, failure, round(spent[-1], 1))
        if failure:
            print(f"  failed: {failure}", flush=True)
        sweep = sweep.with_cell(position, done)
        yield sweep


def _cell(
    definition: Definition, cell: Cell, results: Path, stopped: threading.Event
) -> tuple[str | None, str]:
    """Make one run; return its id, or why there is none.

    Raises:
        KeyboardInterrupt: a stop was asked for.
    """
    settings = definition.all_settings(cell.values)
    queue = settings.pop("QUEUE", "REDIS").upper()
    subscribers, workers = (int(settings.pop(name, "1")) for name in fleet.PROCESSES)
    messages = messages_of(definition.messages, settings_module.load({**settings, "QUEUE": queue}))
    before = set(results.glob("*/summary.json"))
    try:
        with (
            fleet.scratch(queue) as folder,
            Stack(
                Path(folder),
                queue,
                subscribers=subscribers,
                workers=workers,
                settings=settings,
                results=results,
                sqs_options=definition.sqs.split(),
                stopped=stopped,
            ) as stack,
            (Path(folder) / "publisher.log").open("ab+") as log,
        ):
            publisher = stack.publish(messages, "--wait", log=log)
            try:
                fleet.wait(publisher, stopped)
            finally:
                fleet.end(publisher)
            log.seek(0)
            words = log.read().decode(errors="replace").strip().splitlines()
    except QueueBenchError as error:
        return None, str(error)
    if stopped.is_set():
        raise KeyboardInterrupt
    new = sorted(set(results.glob("*/summary.json")) - before)
    if not new:
        return None, words[-1] if words else f"the publisher ended with {publisher.returncode}"
    return new[-1].parent.name, ""


def _report(folder: Path, sweep: Sweep, results: Path, stopped: bool) -> int:
    runs: dict[str, Summary] = {}
    for cell in sweep.cells:
        if cell.run_id is not None:
            try:
                runs[cell.run_id] = read_run(results / cell.run_id)
            except (ReportError, FormatError):
                continue  # and the table says that it is gone
    combinations = combined(sweep, runs)
    code = shown.show(combinations)
    texts = {
        "table.csv": shown.table_csv(sweep, runs),
        "report.html": shown.page(f"Sweep {folder.name}", combinations),
    }
    try:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise QueueBenchError(f"cannot write into {folder}: {error.strerror}") from None
    print(f"\ntable: {folder / 'table.csv'}\nreport: {folder / 'report.html'}")
    return 130 if stopped else code


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _repeats(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_REPEATS:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 to {MOST_REPEATS} is needed")
    return int(text)
