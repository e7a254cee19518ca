"""The server that runs the application: its socket, its clock, its signals."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import uvicorn

from queuebench.errors import SettingsError
from queuebench.local_sqs.server import Application
from queuebench.plumbing import open_files
from queuebench.plumbing.http_limits import LimitedProtocol

# botocore keeps idle connections and finds out late that one was closed
KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens and leaves signals to `serve`."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from None
    return bound


class MonotonicWallClock:
    """Seconds since the epoch that never go back while the process lives."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


async def serve(
    make_application: Callable[[Callable[[str], None]], Application],
    bound: socket.socket,
    on_started: Callable[[], None],
) -> tuple[Application, str | None]:
    """Serve until SIGTERM or SIGINT, or until the application cannot go on; return it and why."""
    failure: list[str] = []

    def stop() -> None:
        server.should_exit = True
        application.stop()

    def fail(line: str) -> None:
        failure.append(line)
        stop()

    application = make_application(fail)
    open_files.raise_limit()
    config = uvicorn.Config(
        application,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, on_started)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    await server.serve([bound])
    return application, failure[0] if failure else None


def main_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where there is one."""
    try:
        import uvloop
    except ImportError:
        print("local SQS: uvloop is not installed, so this is slower than it could be", file=sys.stderr)
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
