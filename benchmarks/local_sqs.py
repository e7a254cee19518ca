"""What the local SQS takes and carries: rates with wrk, receives at a backlog, memory, FIFO quota, others.

    python -m benchmarks.local_sqs [--messages 1000000] [--seconds 5] [--part rates ...]

`rates` and `beside` need wrk (Debian: apt-get install wrk), which is no Python. The server is bound to one
core and wrk to another. The other parts use the small Python client of `sqs_load`, over real HTTP; `backlog`
alternates between a server with a small backlog and one with a large one, so that both are measured under
the same load. `beside` installs moto's server and ministack (benchmarks/requirements-emulators.txt) into an
environment of their own and asks all three the same; `cases` and `differences` do so without measuring.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.sqs_beside import beside
from benchmarks.sqs_differences import cases, differences
from benchmarks.sqs_load import (
    BODY,
    Client,
    Server,
    depth,
    entries,
    fill,
    lua,
    need_wrk,
    new_queue,
    running,
    wrk,
)

SMALL_BACKLOG = 1_000

# Rates


def rates(options: argparse.Namespace) -> None:
    """Requests a second on one core, by wrk."""
    need_wrk()
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


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "rates": rates,
    "backlog": backlog,
    "quota": quota,
    "beside": beside,
    "cases": cases,
    "differences": differences,
}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_sqs", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="the large backlog (%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="of each rate (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=150, help="of 20 receives at each backlog (%(default)s)"
    )
    parser.add_argument(
        "--fill-seconds",
        type=float,
        default=60,
        help="beside: the longest to fill a queue of the others (%(default)s)",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="DIR",
        help="beside: where to install the others, and to find them again (a folder that is removed)",
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only these (all)")
    options = parser.parse_args()
    for part in options.part or PARTS:
        PARTS[part](options)


if __name__ == "__main__":
    main()
