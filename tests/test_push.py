"""The POST, against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from queuebench import push
from queuebench.message import Message
from queuebench.push import GivenUp, Pusher

MESSAGE = Message("run-1", "+5511999990000", "hello", "run", 1)


class Slow(ThreadingHTTPServer):
    """Answers each POST when it is allowed to, and counts them."""

    def __init__(self) -> None:
        self.posts = 0
        self.may_answer = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/push"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Slow)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        self.server.may_answer.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()


def test_an_answer_may_take_longer_than_a_connection(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "CONNECT_TIMEOUT_SECONDS", 0.2)
    pusher = Pusher(slow.url, 1, 0.0, timeout=30.0, tries=1)
    threading.Timer(1.0, slow.may_answer.set).start()
    assert pusher.push(MESSAGE) == 1
    assert slow.posts == 1


def test_an_answer_that_does_not_come_in_time_uses_up_a_try(slow: Slow) -> None:
    with pytest.raises(GivenUp, match=r"ReadTimeoutError.*try 2 of 2"):
        Pusher(slow.url, 1, 0.0, timeout=0.2, tries=2).push(MESSAGE)
    assert slow.posts == 2
