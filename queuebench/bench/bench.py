"""Both queues, one after the other, through real processes on this machine; then side by side.

Nothing needs to be installed or running: the servers are started here and gone afterwards. Neither
`.env`, nor AWS, nor a Redis that was there already is touched.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from queuebench import settings as settings_module
from queuebench.bench.stack import Stack
from queuebench.errors import QueueBenchError, SettingsError
from queuebench.figures.requirement import parse as requirement
from queuebench.plumbing.printable import safe_url
from queuebench.queues import QUEUES
from queuebench.report.cli import main as report

DEFAULT_MESSAGES = "10000"
# All slots begin at once: more than so many make an endpoint that shares a small machine answer late.
DEFAULT_SLOTS = "500"


def main(argv: list[str]) -> int:
    """Run the benchmark; return 0 where every run is valid and nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m queuebench bench", description=__doc__)
    parser.add_argument("--messages", default=DEFAULT_MESSAGES, help="how many, or a list of runs: 100,1000")
    parser.add_argument("--queue", default=",".join(QUEUES), help=f"which (default: {','.join(QUEUES)})")
    parser.add_argument("--subscribers", type=_processes, default=1, metavar="N")
    parser.add_argument("--workers", type=_processes, default=1, metavar="N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of .env"
    )
    parser.add_argument(
        "--sqs", default="", metavar="OPTIONS", help="options of the local SQS: '--latency 0 --no-quotas'"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="where the results go (%(default)s)"
    )
    parser.add_argument(
        "--require",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIGURE",
        help="what every run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'",
    )
    options = parser.parse_args(argv)
    for text in options.require:
        requirement(text)
    queues = [name.strip().upper() for name in options.queue.split(",")]
    if unknown := [name for name in queues if name not in QUEUES]:
        raise SettingsError(f"QUEUE={unknown[0]!r} is unknown; known: {', '.join(QUEUES)}")
    settings = {"WORKER_SLOTS": DEFAULT_SLOTS} | _settings(options.set)
    settings_module.bursts(options.messages)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        folders = [folder for queue in queues for folder in _runs(queue, options, settings)]
    except KeyboardInterrupt:
        print("bench: stopped; nothing is left running", file=sys.stderr)
        return 130
    if not folders:
        print("bench: no run came to its end", file=sys.stderr)
        return 1
    print()
    return report([*map(str, folders), *(["--require", *options.require] if options.require else [])])


def _runs(queue: str, options: argparse.Namespace, settings: Mapping[str, str]) -> Sequence[Path]:
    """Run one queue in a stack of its own, and return the folders of its runs."""
    with _scratch(queue) as folder:
        print(f"{queue}: starting servers, endpoint, monitor, workers and subscribers", flush=True)
        stack = Stack(
            Path(folder),
            queue,
            subscribers=options.subscribers,
            workers=options.workers,
            settings=settings,
            results=options.results,
            sqs_options=options.sqs.split(),
            stopped=_stopped,
        )
        with stack:
            before = set(options.results.glob("*/summary.json"))
            print(f"{queue}: live at {safe_url(stack.environment['MONITOR_URL'])}", flush=True)
            publisher = stack.publish(options.messages, "--wait")
            try:
                _wait(publisher)
            except KeyboardInterrupt:
                publisher.terminate()
                try:
                    publisher.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    publisher.kill()
                raise
    if _stopped.is_set():
        raise KeyboardInterrupt
    new = sorted(set(options.results.glob("*/summary.json")) - before)
    return [path.parent for path in new]


def _scratch(queue: str) -> tempfile.TemporaryDirectory[str]:
    """Return a folder for the servers' data: here, where a disk is, and not in a /tmp that may be memory.

    Raises:
        QueueBenchError: this folder cannot be written to.
    """
    try:
        return tempfile.TemporaryDirectory(
            dir=Path.cwd(), prefix=f".bench-{queue.lower()}-", ignore_cleanup_errors=True
        )
    except OSError as error:
        raise QueueBenchError(f"{error}: the servers' data and results/ need a folder to write to") from None


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    known = {name.upper() for name in settings_module.Settings.__dataclass_fields__}
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            shown = name if settings_module.SECRET.search(name.upper()) else pair
            raise SettingsError(f"{shown!r}: NAME=VALUE is needed, with a name from .env.example")
        settings[name] = value
    settings_module.load(settings)
    return settings


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 to 100 is needed")
    return int(text)


def _wait(publisher: subprocess.Popen[bytes]) -> None:
    """Wait for the publisher's end, or until a stop is asked for."""
    while publisher.poll() is None:
        if _stopped.is_set():
            raise KeyboardInterrupt
        with contextlib.suppress(subprocess.TimeoutExpired):
            publisher.wait(timeout=0.2)


# A handler that raises may do so inside a lock's release, where Python drops it, and the lock stays shut.
_stopped = threading.Event()


def _stop(_number: int, _frame: FrameType | None) -> None:
    # An impatient second one must neither find the event's lock taken nor cut short the stopping.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _stopped.set()
