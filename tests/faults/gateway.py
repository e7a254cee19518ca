"""A gateway before the endpoint that does to answers what gateways do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from tests.scripted_endpoint import Scripted, status

# Is given the connection and the endpoint's answer, which the worker has not had yet.
Spoil = Callable[[socket.socket, bytes], None]


class Gateway(Scripted):
    """Passes POSTs on to the endpoint; spoils the answer to some, or refuses in its place."""

    def __init__(self, endpoint_port: int) -> None:
        super().__init__(self._pass)
        self._endpoint = ("127.0.0.1", endpoint_port)
        self._lines = threading.local()
        self.every = 0  # of so many POSTs one is spoilt or refused; 0: none
        self.spoil: Spoil | None = None
        self.refuse: bytes = b""
        self.spoilt = 0

    def reset(self) -> None:
        """Pass everything on."""
        self.every, self.spoil, self.refuse, self.spoilt = 0, None, b"", 0

    def _pass(self, line: socket.socket, number: int) -> None:
        chosen = self.every and number % self.every == 0
        if chosen and self.refuse:
            self.spoilt += 1
            line.sendall(self.refuse)
            return
        answer = self._forward(self.requests[number])
        if chosen and self.spoil is not None:
            self.spoilt += 1
            self.spoil(line, answer)
        else:
            line.sendall(answer)

    def _forward(self, request: bytes) -> bytes:
        """Return the endpoint's answer; 502 where it gives none."""
        kept = getattr(self._lines, "line", None)
        with contextlib.suppress(OSError):
            line = kept or socket.create_connection(self._endpoint, timeout=60)
            self._lines.line = None
            line.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
                if not (more := line.recv(65536)):
                    line.close()
                    return status(502)
                data += more
            self._lines.line = line
            return data
        return status(502)


def _length(head: bytes) -> int:
    found = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(found or b"0")


def interim(line: socket.socket, answer: bytes) -> None:
    """Send two interim answers, and the final one late."""
    line.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    time.sleep(0.3)
    line.sendall(answer)


def drip_headers(line: socket.socket, answer: bytes) -> None:
    """Send a header without end, slowly."""
    line.sendall(answer.partition(b"\r\n")[0] + b"\r\nX: ")
    while True:
        time.sleep(0.2)
        line.sendall(b"y")


def drip_body(line: socket.socket, answer: bytes) -> None:
    """Send a body that takes hours."""
    line.sendall(answer.partition(b"\r\n")[0] + b"\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        time.sleep(0.2)
        line.sendall(b"y")


def endless_body(line: socket.socket, answer: bytes) -> None:
    """Send a body without end, fast."""
    line.sendall(answer.partition(b"\r\n")[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        line.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")


def one_too_many(line: socket.socket, answer: bytes) -> None:
    """Send the answer, and later another that nobody asked for."""
    line.sendall(answer)
    time.sleep(0.05)
    line.sendall(status(200))
