"""What asks the project's own services ends in time and in bounded memory, whoever answers."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from queuebench.measuring import client, telemetry
from queuebench.measuring.client import MonitorClient, MonitorError
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.monitor import versions
from queuebench.plumbing.asker import Asker, Unanswered
from queuebench.plumbing.proxies import direct_session

OK = b"HTTP/1.1 200 OK\r\n"


class Stranger(socketserver.BaseRequestHandler):
    """Answers any request with some bytes, and then, perhaps, with more and more."""

    first, then, pause_seconds = b"", b"", 0.0

    def handle(self) -> None:
        self.request.recv(65_536)
        with contextlib.suppress(OSError):
            self.request.sendall(self.first)
            while self.then:
                self.request.sendall(self.then)
                time.sleep(self.pause_seconds)


@pytest.fixture
def stranger() -> Iterator[tuple[type[Stranger], str]]:
    class Handler(Stranger):
        pass

    handler = Handler
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield handler, f"http://127.0.0.1:{server.server_address[1]}"
        handler.then = b""
        server.shutdown()


WITHOUT_END = [
    (OK + b"Content-Length: 1000\r\n\r\n", b" ", 0.05),
    (OK, b"X", 0.05),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
    (OK + b"\r\n", b"x" * 65_536, 0.0),
    (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
]
NO_ANSWER = [
    b"",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    OK + b"Content-Length: 9\r\n\r\n{}",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize(("first", "then", "pause_seconds"), WITHOUT_END)
def test_an_answer_without_end_is_none(
    stranger: tuple[type[Stranger], str], first: bytes, then: bytes, pause_seconds: float
) -> None:
    handler, url = stranger
    handler.first, handler.then, handler.pause_seconds = first, then, pause_seconds
    asker = Asker(direct_session())
    tracemalloc.start()
    try:
        for _ in range(2):
            with pytest.raises(Unanswered):
                asker.ask("GET", url, seconds=0.4)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    # It is asked again once that one has ended.
    handler.first, handler.then = OK + b"Content-Length: 2\r\n\r\n{}", b""
    give_up_at = time.monotonic() + 60
    while True:
        try:
            assert asker.ask("GET", url, seconds=30).content == b"{}"
            return
        except Unanswered:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)


@pytest.mark.parametrize("first", NO_ANSWER)
def test_what_is_no_answer_ends_nobody(stranger: tuple[type[Stranger], str], first: bytes) -> None:
    handler, url = stranger
    handler.first = first
    with pytest.raises(Unanswered):
        Asker(direct_session()).ask("POST", url, data=b"{}", seconds=30)
    assert versions.versions(url)["python"]


def test_a_role_whose_monitor_answers_without_end_begins_and_ends_all_the_same(
    stranger: tuple[type[Stranger], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "ANSWER_SECONDS", 0.3)
    handler, url = stranger
    handler.first, handler.then, handler.pause_seconds = OK, b"X", 0.05
    ended = threading.Event()

    def role() -> None:
        told = Telemetry("worker", url)
        told.start()
        told.record("run", Stage.PUSH, counts={Count.PUSHED: 1})
        told.close(patience_seconds=0.0)
        ended.set()

    threading.Thread(target=role, daemon=True).start()
    assert ended.wait(60)


def body(json: str) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n%s" % (len(json), json.encode())


@pytest.mark.parametrize(
    "json",
    [
        "[]",
        "{}",
        '{"accepted":"all","delivered":1}',
        '{"accepted":1,"delivered":1,"rates":{"published":"fast"}}',
        '{"accepted":1,"delivered":1,"summary":"good"}',
        '{"accepted":1e999,"delivered":1}',
        "<html>",
    ],
)
def test_progress_that_is_none_is_one_clear_line(stranger: tuple[type[Stranger], str], json: str) -> None:
    handler, url = stranger
    handler.first = body(json)
    with pytest.raises(MonitorError, match="MONITOR_URL is no monitor of this version"):
        MonitorClient(url).progress("run")


def test_a_publisher_gives_up_on_a_monitor_that_answers_without_end(
    stranger: tuple[type[Stranger], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 0.5)
    handler, url = stranger
    handler.first, handler.then, handler.pause_seconds = OK, b"X", 0.05
    with pytest.raises(MonitorError, match="does not answer"):
        MonitorClient(url).join("p", 0, 1, {})


@pytest.mark.parametrize(
    "json",
    [
        '{"run_id":"","first":0,"backlog":{}}',
        '{"run_id":"%s","first":0,"backlog":{}}' % ("x" * 1000),
        '{"run_id":"run","first":-1,"backlog":{}}',
        '{"run_id":"run","first":0,"backlog":{"queue":-1}}',
        '{"run_id":5,"first":0,"backlog":{}}',
    ],
    ids=lambda json: json[:40],
)
def test_a_run_that_cannot_be_is_not_joined(stranger: tuple[type[Stranger], str], json: str) -> None:
    handler, url = stranger
    handler.first = body(json)
    with pytest.raises(MonitorError, match="MONITOR_URL is no monitor of this version"):
        MonitorClient(url).join("p", 0, 1, {})
