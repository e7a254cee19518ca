"""What puts load on a server that speaks SQS's protocol: a lean client, and wrk, which is no Python."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.harness import cpu_seconds_of, rss_mib_of

BODY = "x" * 100
CONTENT_TYPE = "application/x-amz-json-1.0"
# Some find the service in it; nobody here verifies a signature.
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
)
# FIFO groups of the backlogs
GROUPS = 10_000
# requests in flight while a backlog is made
PIPELINED = 50


class Server:
    """A server as a process of its own, on one core: by default the local SQS."""

    def __init__(self, *options: str) -> None:
        self.process = on_one_core(
            [sys.executable, "-m", "queuebench", "sqs", "--port", "0", "--latency", "0", *options]
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            sys.exit(f"the local SQS did not start: {line}")
        self.port = int(found[1])

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far."""
        return cpu_seconds_of(self.process.pid)

    def rss_mib(self) -> float:
        """Return the resident memory now."""
        return rss_mib_of(self.process.pid)


def on_one_core(argv: list[str], quiet: bool = False, **environment: str) -> "subprocess.Popen[str]":
    """Start a server on the last core; a quiet one's words are nobody's."""
    core = {max(os.sched_getaffinity(0))}
    return subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        text=True,
        env=os.environ | environment,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )


@contextmanager
def running(*options: str) -> Iterator[Server]:
    """Run a server for a while."""
    server = Server(*options)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=60)


class Client:
    """One connection that speaks the SQS protocol with as little work as possible."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", 1 << 20)

    @staticmethod
    def request(action: str, parameters: dict[str, Any]) -> bytes:
        """Return the bytes of a request."""
        body = json.dumps(parameters).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: AmazonSQS.{action}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\nAuthorization: {AUTHORIZATION}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, data: bytes) -> None:
        """Send requests."""
        self._socket.sendall(data)

    def reply(self) -> tuple[int, bytes]:
        """Read one reply: status and body."""
        status = int(self._reader.readline().split()[1])
        length, closes = 0, False
        while (line := self._reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
            closes = closes or line.lower().startswith(b"connection: close")
        body = self._reader.read(length)
        if closes:
            self._reader.close()
            self._socket.close()
            self._connect()
        return status, body

    def call(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Do one action and return its reply, or {} for an error."""
        self.send(self.request(action, parameters))
        status, body = self.reply()
        reply: dict[str, Any] = json.loads(body)
        return reply if status == 200 else {}


def new_queue(client: Client, name: str) -> str:
    """Create a queue and return its URL."""
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url: str = client.call("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def entries(url: str, first: int) -> list[dict[str, Any]]:
    """Return a batch of ten, the first of them with this number."""
    batch: list[dict[str, Any]] = [{"Id": str(i), "MessageBody": BODY} for i in range(10)]
    if url.endswith(".fifo"):
        for i, entry in enumerate(batch, first):
            entry |= {"MessageGroupId": f"g{i % GROUPS}", "MessageDeduplicationId": str(i)}
    return batch


def fill(client: Client, url: str, count: int, first: int = 0, pipelined: int = PIPELINED) -> float:
    """Send `count` messages; return the seconds that it took."""
    started = time.perf_counter()
    pending = 0
    for number in range(first, first + count, 10):
        client.send(Client.request("SendMessageBatch", {"QueueUrl": url, "Entries": entries(url, number)}))
        pending += 1
        if pending == pipelined or number + 10 >= first + count:
            for _ in range(pending):
                status, body = client.reply()
                if status != 200 or (b"Failed" in body and json.loads(body)["Failed"]):
                    sys.exit(f"a send failed: {body!r}")
            pending = 0
    return time.perf_counter() - started


def need_wrk() -> None:
    """End with one line where wrk is missing."""
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk, or name other parts with --part")


def lua(action: str, parameters: dict[str, Any]) -> str:
    """Return a wrk script that repeats one request."""
    return (
        f'wrk.method = "POST"\nwrk.headers["X-Amz-Target"] = "AmazonSQS.{action}"\n'
        f'wrk.headers["Content-Type"] = "{CONTENT_TYPE}"\nwrk.headers["Authorization"] = "{AUTHORIZATION}"\n'
        f"wrk.body = [==[{json.dumps(parameters)}]==]\n"
    )


def wrk(server: Server, script: str, seconds: int, connections: int = 16) -> tuple[float, str]:
    """Return requests a second, and wrk's word on errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        core = {min(os.sched_getaffinity(0))}
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", file.name),
                f"http://127.0.0.1:{server.port}",
            ],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )
    found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    errors = re.search(r"(Non-2xx.*|Socket errors.*)", done.stdout)
    return float(found[1]) if found else 0.0, errors[1] if errors else "no errors"


def depth(client: Client, url: str) -> int:
    """Return how many messages wait."""
    name = "ApproximateNumberOfMessages"
    reply = client.call("GetQueueAttributes", QueueUrl=url, AttributeNames=[name])
    return int(reply["Attributes"][name])
