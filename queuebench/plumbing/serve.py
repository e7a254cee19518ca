"""How the project's own HTTP services run."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType
from typing import Any, Protocol

import uvicorn

from queuebench.errors import QueueBenchError
from queuebench.plumbing import open_files
from queuebench.plumbing.http_limits import LimitedProtocol


class Reporting(Protocol):
    """What reports while a service runs."""

    def start(self) -> None:
        """Begin to report."""

    def close(self) -> None:
        """Report for the last time."""


def serve(app: Any, name: str, host: str, port: int, reporting: Reporting | None = None) -> int:
    """Serve an ASGI application until SIGTERM or Ctrl-C, and say where once it listens.

    Raises:
        QueueBenchError: the address cannot be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise QueueBenchError(f"cannot listen on {host}:{port}: {error}; choose another --port") from error
    listener.listen(4096)
    open_files.raise_limit()
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        loop="uvloop",
        access_log=False,
        log_level="warning",
        # Workers keep their connections between bursts; uvicorn would close them after 5 s.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=5,
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Before uvicorn looks after signals, and after it has raised them again. A handler that raised could
        # do so where Python drops it, and the service would go on for ever.
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    print(f"{name} listens on http://{host}:{listener.getsockname()[1]}", flush=True)
    if reporting is not None:
        reporting.start()
    try:
        server.run(sockets=[listener])
        print(f"{name} stopped", file=sys.stderr)
    finally:
        if reporting is not None:
            reporting.close()
    return 0
