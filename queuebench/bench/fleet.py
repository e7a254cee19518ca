"""What `bench` and the experiments share: the options that choose a fleet, and how they stop."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from queuebench import settings as settings_module
from queuebench.errors import QueueBenchError, SettingsError
from queuebench.queues import QUEUES

# All slots begin at once: more than so many make an endpoint that shares a small machine answer late.
DEFAULT_SLOTS = "500"
# Said of processes, and not a setting.
PROCESSES = ("SUBSCRIBERS", "WORKERS")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose queues, processes, settings and where the results go."""
    parser.add_argument("--queue", default=",".join(QUEUES), help=f"which (default: {','.join(QUEUES)})")
    parser.add_argument("--subscribers", type=processes, default=1, metavar="N")
    parser.add_argument("--workers", type=processes, default=1, metavar="N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of .env"
    )
    parser.add_argument(
        "--sqs", default="", metavar="OPTIONS", help="options of the local SQS: '--latency 0 --no-quotas'"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="where the results go (%(default)s)"
    )


def queues_of(text: str) -> list[str]:
    """Return the queues that `--queue` names.

    Raises:
        SettingsError: one is unknown.
    """
    queues = [name.strip().upper() for name in text.split(",")]
    if unknown := [name for name in queues if name not in QUEUES]:
        raise SettingsError(f"QUEUE={unknown[0]!r} is unknown; known: {', '.join(QUEUES)}")
    return queues


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the settings of some NAME=VALUE.

    Raises:
        SettingsError: a name is unknown, or a value cannot be used.
    """
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


def is_count(text: str) -> bool:
    """Tell whether a text is a number of processes that can be started here."""
    return text.isdecimal() and 1 <= int(text) <= 100


def processes(text: str) -> int:
    """Return a number of processes, for argparse."""
    if not is_count(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 to 100 is needed")
    return int(text)


def vary(text: str) -> tuple[str, list[str]]:
    """Return the name and the values of `NAME=A,B`.

    Raises:
        SettingsError: it is none, or a value cannot be used.
    """
    name, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not found:
        raise SettingsError(f"{text!r}: NAME=A,B is needed, such as SUBSCRIBERS=1,2,4")
    for value in found:
        if name == "QUEUE":
            queues_of(value)
        elif name not in PROCESSES:
            settings_of([f"{name}={value}"])
        elif not is_count(value):
            raise SettingsError(f"{name}={value}: a whole number from 1 to 100 is needed")
    return name, found


def scratch(queue: str) -> tempfile.TemporaryDirectory[str]:
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


def wait(process: subprocess.Popen[bytes], stopped: threading.Event) -> None:
    """Wait for a process's end.

    Raises:
        KeyboardInterrupt: a stop was asked for before.
    """
    while process.poll() is None:
        if stopped.is_set():
            raise KeyboardInterrupt
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that still runs, by force where it takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give the event that SIGTERM and Ctrl-C set.

    A handler that raises may do so inside a lock's release, where Python drops it, and the lock stays shut.
    """
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # An impatient second one must neither find the event's lock taken nor cut short the stopping.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    yield stopped
