"""What a client may take of the HTTP servers: bytes and time, for a request's head and body."""

import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from queuebench.plumbing.http_limits import MAX_BODY_BYTES, MAX_HEAD_BYTES
from tests import local_sqs_fixtures as fixtures
from tests.local_sqs_fixtures import Sqs, running

pytestmark = pytest.mark.slow

local = fixtures.local
local_server = fixtures.local_server

# the real server, with time-outs that a test can wait for
IMPATIENT = """
import sys
from queuebench.plumbing import http_limits
http_limits.HEAD_SECONDS = http_limits.BODY_SECONDS = http_limits.READ_SECONDS = 1.0
from queuebench.local_sqs.cli import main
sys.exit(main(["--port", "0", "--latency", "0"]))
"""


@contextmanager
def serving(*command: str) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and process id."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], "it does not start"
        port = None
        while port is None:
            line = process.stdout.readline()
            assert line, "it ended"
            found = re.search(r"http://\S+?:(\d+)", line)
            port = int(found[1]) if found else None
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(30)
    return connection


def answer(connection: socket.socket) -> bytes:
    """Return everything that comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


SERVERS = {
    "local SQS": ("-m", "queuebench", "sqs", "--port", "0"),
    "endpoint": ("-m", "queuebench", "endpoint", "--port", "0", "--host", "127.0.0.1"),
    "monitor": ("-m", "queuebench", "monitor", "--port", "0", "--host", "127.0.0.1"),
}


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
# how a request begins, and what follows without an end
ENDLESS = {
    "header": (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 65_536),
    "chunk extension": (CHUNKED + b"1;", b"x" * 65_536),
    "trailer": (CHUNKED + b"1\r\nx\r\n0\r\nT: ", b"x" * 65_536),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"T: 1\r\n" * 10_000),
}


@pytest.mark.parametrize("name", SERVERS)
def test_what_has_no_end_is_refused_and_costs_little(name: str, tmp_path: Path) -> None:
    more = {
        "local SQS": (),
        "endpoint": ("--log", str(tmp_path / "log")),
        "monitor": ("--results", str(tmp_path)),
    }
    with serving(*SERVERS[name], *more[name]) as (port, pid):
        for begins, goes_on in ENDLESS.values():
            with closing(connect(port)) as connection:
                connection.sendall(begins)
                try:
                    for _ in range(50_000_000 // len(goes_on)):
                        connection.sendall(goes_on)
                except OSError:
                    pass
                reply = answer(connection)
                # the monitor refuses such a POST by its type, before the body
                assert reply[:12] in (b"", b"HTTP/1.1 413", b"HTTP/1.1 415", b"HTTP/1.1 431")
        flood = [connect(port) for _ in range(20)]
        for connection in flood:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 30_000)
        for connection in flood:
            connection.close()
        seconds = time.clock_gettime((~pid << 3) | 2)
        assert seconds < 10, "a process that has read 50 MB in a header line in quadratic time takes more"
        status = Path(f"/proc/{pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        assert peak is not None and int(peak[1]) < 150_000, "KiB at its peak"
        with closing(connect(port)) as other:
            other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert answer(other).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_",
    [
        CHUNKED.replace(b"Host: x", b"Content-Length: 5") + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n  c\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: x\n\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"f" * 17 + b"\r\n",
    ],
    ids=[
        "two lengths", "other lengths", "sign", "coding after chunked", "folded", "bare LF", "NUL",
        "negative chunk", "huge chunk",
    ],
)  # fmt: skip
def test_what_two_servers_may_read_differently_is_refused(
    local_server: fixtures.LocalSqs, request_: bytes
) -> None:
    with closing(connect(local_server.port)) as connection:
        connection.sendall(request_)
        assert answer(connection).startswith(b"HTTP/1.1 400 ")


def test_requests_may_follow_without_waiting_for_answers(local_server: fixtures.LocalSqs) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b" " * 300_000
    with closing(connect(local_server.port)) as connection:
        # the last one's body is longer than a head may be
        connection.sendall(
            health * 50
            + b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ListQueues\r\nConnection: close\r\n"
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        answers = answer(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 50, answers[-300:]
    assert answers.count(b'"__type"') == 1


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_an_answer_that_nobody_reads_ends_the_connection() -> None:
    with serving("-c", IMPATIENT) as (port, pid):
        sqs = Sqs(fixtures.client_of(f"http://127.0.0.1:{port}"))
        url = sqs.queue()
        for _ in range(8):
            sqs.send(url, "x" * 1_048_576)
        body = b'{"QueueUrl": "%s", "MaxNumberOfMessages": 10}' % url.encode()
        before = open_files(pid)
        with closing(connect(port)) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            deadline = time.monotonic() + 60
            for is_open in (True, False):
                while (open_files(pid) > before) is not is_open:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert len(answer(connection)) < 8 * 1_048_576


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(20_000)) + b"\r\n",
        b"\r\n" * MAX_HEAD_BYTES,
    ],
    ids=["line", "header", "many headers", "empty lines"],
)
def test_a_long_head_is_answered_431(local_server: fixtures.LocalSqs, head: bytes) -> None:
    with closing(connect(local_server.port)) as connection:
        connection.sendall(head)
        assert answer(connection).startswith(b"HTTP/1.1 431 ")


def test_what_drips_is_gone_after_a_bounded_time() -> None:
    starts = [
        b"",
        b"GET /health HT",
        b"GET /health HTTP/1.1\r\nHost: x\r\nA: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea",
    ]
    with serving("-c", IMPATIENT) as (port, _):
        connections = [(start, connect(port)) for start in starts * 50]
        for start, connection in connections:
            connection.sendall(start)
        open_ones = {connection for _, connection in connections}
        deadline = time.monotonic() + 60
        while open_ones and time.monotonic() < deadline:
            for connection in select.select(list(open_ones), [], [], 0.1)[0]:
                try:
                    gone = not connection.recv(65_536)
                except ConnectionResetError:
                    gone = True
                if gone:
                    open_ones.discard(connection)
                    connection.close()
            for start, connection in connections:
                # the server has said why, or will: whoever goes on dripping does not get more time
                if connection in open_ones and start:
                    try:
                        connection.send(b"x")
                    except OSError:
                        open_ones.discard(connection)
                        connection.close()
        assert not open_ones


def test_a_body_above_the_limit_is_refused(local_server: fixtures.LocalSqs) -> None:
    with closing(connect(local_server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 * MAX_BODY_BYTES))
        try:
            for _ in range(MAX_BODY_BYTES // 65_536 + 2):
                connection.sendall(b" " * 65_536)
        except OSError:
            return
        assert answer(connection).startswith(b"HTTP/1.1 413 ")


def test_a_mebibyte_of_text_may_be_escaped_as_a_client_likes(
    local: Sqs, local_server: fixtures.LocalSqs
) -> None:
    url = local.queue()
    body = b'{"QueueUrl": "%s", "MessageBody": "%s"}' % (url.encode(), b"\\u003c" * 1_048_576)
    with closing(connect(local_server.port)) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.SendMessage\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        connection.sendall(body)
        assert answer(connection).startswith(b"HTTP/1.1 200 ")
    assert local.bodies(url) == ["<" * 1_048_576]


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_unfinished_bodies_are_bounded_together_and_give_their_memory_back() -> None:
    with running() as server:
        before = resident_kib(server.process.pid)
        connections = [connect(server.port) for _ in range(60)]
        refused = 0
        for connection in connections:
            try:
                connection.sendall(
                    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 4_000_000
                )
            except OSError:
                refused += 1
        assert resident_kib(server.process.pid) - before < 160_000
        for connection in connections:
            connection.close()
        deadline = time.monotonic() + 30
        while resident_kib(server.process.pid) - before > 20_000 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert resident_kib(server.process.pid) - before <= 20_000
