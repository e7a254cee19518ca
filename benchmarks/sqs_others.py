"""Servers of somebody else's: installed into an environment of their own, started on one core."""

import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.sqs_load import Client, Server, on_one_core, running

REQUIREMENTS = Path(__file__).with_name("requirements-emulators.txt")
START_SECONDS = 60


class Other(Server):
    """A server of somebody else's, ready once it lists queues."""

    def __init__(self, name: str, commands: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        port = str(self.port)
        if name == "moto":
            argv = [str(commands / "moto_server"), "-H", "127.0.0.1", "-p", port]
            self.process = on_one_core(argv, quiet=True)
        else:
            self.process = on_one_core(
                [str(commands / "ministack")],
                quiet=True,
                GATEWAY_PORT=port,
                BIND_HOST="127.0.0.1",
                SERVICES="sqs",
            )
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                Client(self).call("ListQueues")
                return
            except (OSError, ValueError, IndexError):
                if time.monotonic() > give_up_at or self.process.poll() is not None:
                    self.process.kill()
                    sys.exit(f"{name} did not start")
                time.sleep(0.2)


@contextmanager
def other(name: str, commands: Path) -> Iterator[Server]:
    """Run moto's server or ministack for a while."""
    server = Other(name, commands)
    try:
        yield server
    finally:
        # nothing is kept, and some ask for patience
        server.process.kill()
        server.process.wait()


def install(folder: Path) -> Path:
    """Install the others into an environment of their own, unless they are there; return its commands."""
    commands = folder / "bin"
    if not (commands / "ministack").exists():
        print(f"installing {', '.join(REQUIREMENTS.read_text().split())} into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        pip = [str(commands / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "install", "-r", str(REQUIREMENTS)], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            sys.exit(f"the others could not be installed: {why}")
    return commands


@contextmanager
def servers(environment: Path | None) -> Iterator[dict[str, Callable[[], AbstractContextManager[Server]]]]:
    """Yield what starts the local SQS, moto's server and ministack, by name."""
    with tempfile.TemporaryDirectory(prefix="queuebench-emulators-") as folder:
        commands = install(environment or Path(folder))
        yield {
            "local SQS": running,
            "moto": lambda: other("moto", commands),
            "ministack": lambda: other("ministack", commands),
        }
