"""What the local SQS takes and carries: rates with wrk, receives at a backlog, memory, FIFO quota.

    python -m benchmarks.local_sqs [--messages 1000000] [--seconds 5] [--part rates ...]

`rates` needs wrk (Debian: apt-get install wrk), which is no Python. The server is bound to one core and
wrk to another. The other parts use the small Python client below, over real HTTP; it alternates between
a server with a small backlog and one with a large one, so that both are measured under the same load.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.harness import cpu_seconds_of, rss_mib_of

BODY = "x" * 100
# FIFO groups of the backlogs
GROUPS = 10_000
SMALL_BACKLOG = 1_000
# requests in flight while a backlog is made
PIPELINED = 50


class Server:
    """A local SQS as a process of its own, on one core."""

    def __init__(self, *options: str) -> None:
        core = {max(os.sched_getaffinity(0))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "queuebench", "sqs", "--port", "0", "--latency", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, core),
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
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", 1 << 20)

    @staticmethod
    def request(action: str, parameters: dict[str, Any]) -> bytes:
        """Return the bytes of a request."""
        body = json.dumps(parameters).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.{action}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def send(self, data: bytes) -> None:
        """Send requests."""
        self._socket.sendall(data)

    def reply(self) -> tuple[int, bytes]:
        """Read one reply: status and body."""
        status = int(self._reader.readline().split()[1])
        length = 0
        while (line := self._reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return status, self._reader.read(length)

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


def fill(client: Client, url: str, count: int, first: int = 0) -> float:
    """Send `count` messages; return the seconds that it took."""
    started = time.perf_counter()
    pending = 0
    for number in range(first, first + count, 10):
        client.send(Client.request("SendMessageBatch", {"QueueUrl": url, "Entries": entries(url, number)}))
        pending += 1
        if pending == PIPELINED or number + 10 >= first + count:
            for _ in range(pending):
                status, body = client.reply()
                if status != 200 or b"Failed" in body:
                    sys.exit(f"a send failed: {body!r}")
            pending = 0
    return time.perf_counter() - started


# Rates


def lua(action: str, parameters: dict[str, Any]) -> str:
    """Return a wrk script that repeats one request."""
    return (
        f'wrk.method = "POST"\nwrk.headers["X-Amz-Target"] = "AmazonSQS.{action}"\n'
        f"wrk.body = [==[{json.dumps(parameters)}]==]\n"
    )


def wrk(server: Server, script: str, seconds: int) -> tuple[float, str]:
    """Return requests a second, and wrk's word on errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        core = {min(os.sched_getaffinity(0))}
        done = subprocess.run(
            ["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", file.name, f"http://127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )
    found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    errors = re.search(r"(Non-2xx.*|Socket errors.*)", done.stdout)
    return float(found[1]) if found else 0.0, errors[1] if errors else "no errors"


def rates(options: argparse.Namespace) -> None:
    """Requests a second on one core, by wrk."""
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk, or leave the part `rates` out")
    for kept in (False, True):
        with (
            tempfile.TemporaryDirectory() as data,
            running("--no-quotas", *(("--data", data) if kept else ())) as server,
        ):
            client = Client(server)
            url = new_queue(client, "a")
            print(f"requests a second, server on one core, {'log on disk' if kept else 'no log'}:")
            for name, action, more in (
                ("SendMessage, 100 bytes", "SendMessage", {"MessageBody": BODY}),
                ("SendMessageBatch, 10 x 100 bytes", "SendMessageBatch", {"Entries": entries(url, 0)}),
                ("ReceiveMessage, 1", "ReceiveMessage", {"VisibilityTimeout": 600}),
                (
                    "ReceiveMessage, 10",
                    "ReceiveMessage",
                    {"MaxNumberOfMessages": 10, "VisibilityTimeout": 600},
                ),
            ):
                if action == "ReceiveMessage" and "MaxNumberOfMessages" in more:
                    # so many that none is empty
                    fill(client, url, 120_000 * options.seconds)
                cpu, started = server.cpu_seconds(), time.perf_counter()
                rate, errors = wrk(server, lua(action, {"QueueUrl": url, **more}), options.seconds)
                cpu = server.cpu_seconds() - cpu
                share = cpu / (time.perf_counter() - started)
                print(
                    f"  {name:34} {rate:8,.0f}/s  {1e6 * share / rate:5.0f} us of CPU each, "
                    f"{share:4.0%} of the core, {errors}"
                )
            print(f"  left waiting: {depth(client, url):,}")


def depth(client: Client, url: str) -> int:
    """Return how many messages wait."""
    name = "ApproximateNumberOfMessages"
    reply = client.call("GetQueueAttributes", QueueUrl=url, AttributeNames=[name])
    return int(reply["Attributes"][name])


# Receives at a backlog, and memory


def receive_times(client: Client, url: str, rounds: int, first: int) -> Iterator[list[float]]:
    """Yield the seconds of each of 20 receives of 10, then put back as many messages as were taken."""
    receive = Client.request("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 10})
    for number in range(rounds):
        times: list[float] = []
        taken: list[bytes] = []
        for _ in range(20):
            started = time.perf_counter()
            client.send(receive)
            _, body = client.reply()
            times.append(time.perf_counter() - started)
            taken.append(body)
        for body in taken:
            messages = json.loads(body)["Messages"]
            handles = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            if len(handles) != 10 or client.call("DeleteMessageBatch", QueueUrl=url, Entries=handles).get(
                "Failed"
            ):
                sys.exit("a receive or a delete failed")
        fill(client, url, 200, first + number * 200)
        yield times


def backlog(options: argparse.Namespace) -> None:
    """Receive at 1,000 and at many waiting, alternating; memory at many."""
    for name in ("standard", "many-groups.fifo"):
        with running("--no-quotas") as few, running("--no-quotas") as many:
            client_few, client_many = Client(few), Client(many)
            url_few, url_many = new_queue(client_few, name), new_queue(client_many, name)
            fill(client_few, url_few, SMALL_BACKLOG)
            empty = many.rss_mib()
            seconds = fill(client_many, url_many, options.messages)
            print(
                f"{name}: {options.messages:,} messages of 100 bytes sent in {seconds:.0f} s take "
                f"{many.rss_mib():.0f} MiB ({empty:.0f} MiB when empty)"
            )
            times: dict[str, list[float]] = {"few": [], "many": []}
            receives = {
                "few": receive_times(client_few, url_few, options.rounds, SMALL_BACKLOG),
                "many": receive_times(client_many, url_many, options.rounds, options.messages),
            }
            for number in range(options.rounds):
                for which in ("few", "many") if number % 2 else ("many", "few"):
                    times[which] += next(receives[which])
            if depth(client_many, url_many) != options.messages:
                sys.exit("the backlog is not what it was")
            for what, of in (("median", statistics.median), ("mean", statistics.fmean)):
                a, b = of(times["few"]) * 1e6, of(times["many"]) * 1e6
                print(
                    f"  receive of 10, {what:6}: {a:6.0f} us at {SMALL_BACKLOG:,} waiting, {b:6.0f} us at "
                    f"{options.messages:,}: {b / a - 1:+.1%} ({len(times['few']):,} receives each)"
                )


# FIFO quota


def carry(server: Server, urls: list[str], seconds: float) -> int:
    """Send, receive and delete on each queue as fast as the quota lets; return the messages carried."""
    end = time.monotonic() + seconds
    carried = [0] * len(urls)

    def insist(client: Client, action: str, **parameters: Any) -> dict[str, Any]:
        while not (reply := client.call(action, **parameters)) and time.monotonic() < end:
            time.sleep(0.01)
        return reply

    def work(index: int, url: str) -> None:
        client = Client(server)
        number = 0
        while time.monotonic() < end:
            insist(client, "SendMessageBatch", QueueUrl=url, Entries=entries(url, number))
            number += 10
            reply = insist(client, "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10)
            handles = [
                {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                for i, message in enumerate(reply.get("Messages", []))
            ]
            if handles and insist(client, "DeleteMessageBatch", QueueUrl=url, Entries=handles):
                carried[index] += len(handles)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(urls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(carried)


def quota(options: argparse.Namespace) -> None:
    """How much more four FIFO queues carry than one, at 10 calls a second."""
    seconds = 4 * options.seconds
    with running("--fifo-quota", "10") as server:
        client = Client(server)
        one = carry(server, [new_queue(client, "one.fifo")], seconds)
        four = carry(server, [new_queue(client, f"four-{i}.fifo") for i in range(4)], seconds)
    print(
        f"FIFO quota of 10 calls/s, {seconds} s: 1 queue carries {one / seconds:.0f} messages/s, 4 queues "
        f"{four / seconds:.0f}/s: {four / one:.2f} x"
    )


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {"rates": rates, "backlog": backlog, "quota": quota}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_sqs", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="the large backlog (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of each rate (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=150, help="of 20 receives at each backlog (%(default)s)"
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only these (all)")
    options = parser.parse_args()
    for part in options.part or PARTS:
        PARTS[part](options)


if __name__ == "__main__":
    main()
