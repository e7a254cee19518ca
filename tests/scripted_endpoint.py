"""An endpoint whose every byte is a test's own: what HTTP servers never do, and what they should not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# Is given the connection, and the number that the request has among all.
Answer = Callable[[socket.socket, int], None]


def says(*answers: bytes) -> Answer:
    """Answer each request with the next of these, the last for ever."""
    return lambda line, number: line.sendall(answers[min(number, len(answers) - 1)])


def status(code: int, headers: str = "") -> bytes:
    return f"HTTP/1.1 {code} Because\r\nContent-Length: 0\r\n{headers}\r\n".encode()


class Scripted:
    """Reads requests, and answers each as it is told."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.answer, self._context = answer, context
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/push"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.ended.set()
        self._listener.close()

    def keys(self) -> Sequence[str]:
        """Return the Idempotency-Key of every request."""
        with self._lock:
            heads = [request.split(b"\r\n\r\n")[0].decode().split("\r\n") for request in self.requests]
        return [line.partition(": ")[2] for head in heads for line in head if line.startswith("Idempotency-")]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.settimeout(60)
            if self._context is not None:
                line = self._context.wrap_socket(line, server_side=True)
            while (request := _request(line)) is not None:
                with self._lock:
                    number = len(self.requests)
                    self.requests.append(request)
                self.answer(line, number)


def _request(line: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = line.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [part.partition(b": ")[2] for part in head.split(b"\r\n") if part.startswith(b"Content-Length")]
    wanted = int(lengths[0]) if lengths else 0
    while len(body) < wanted:
        body += line.recv(65536)
    return head + b"\r\n\r\n" + body
