"""Part `beside` of benchmarks.local_sqs: the local SQS, moto's server and ministack, asked the same."""

import argparse
import math
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sqs_cases import CASES, Asked
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
    on_one_core,
    running,
    wrk,
)

REQUIREMENTS = Path(__file__).with_name("requirements-emulators.txt")
FEW = 1_000
# so few that a server that takes 100 ms a call still answers within a rate's seconds
CONNECTIONS = 4
START_SECONDS = 60
# a fill looks at the clock after so many
FILL_STEP = 5_000

# Send ten, receive ten, delete ten, as replies come in: what waits stays about what it was.
CYCLE = """
local send, receive, url = [==[%s]==], [==[%s]==], [==[%s]==]
local handles, turn = {}, 0
request = function()
  local action, body
  if #handles >= 10 then
    local list = {}
    for i = 1, 10 do
      list[i] = '{"Id":"' .. i .. '","ReceiptHandle":"' .. table.remove(handles) .. '"}'
    end
    action = "DeleteMessageBatch"
    body = '{"QueueUrl":"' .. url .. '","Entries":[' .. table.concat(list, ",") .. "]}"
  else
    turn = 1 - turn
    if turn == 1 then
      action, body = "SendMessageBatch", send
    else
      action, body = "ReceiveMessage", receive
    end
  end
  wrk.headers["X-Amz-Target"] = "AmazonSQS." .. action
  return wrk.format("POST", "/", nil, body)
end
response = function(status, headers, body)
  for handle in body:gmatch('"ReceiptHandle"%%s*:%%s*"(.-)"') do
    handles[#handles + 1] = handle
  end
end
"""


class Other(Server):
    """A server of somebody else's, ready once it lists queues."""

    def __init__(self, name: str, commands: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        port = str(self.port)
        if name == "moto":
            argv = [str(commands / "moto_server"), "-H", "127.0.0.1", "-p", port]
            self.process = on_one_core(argv, quiet=True)
        else:
            self.process = on_one_core(
                [str(commands / "ministack")],
                quiet=True,
                GATEWAY_PORT=port,
                BIND_HOST="127.0.0.1",
                SERVICES="sqs",
            )
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                Client(self).call("ListQueues")
                return
            except (OSError, ValueError, IndexError):
                if time.monotonic() > give_up_at or self.process.poll() is not None:
                    self.process.kill()
                    sys.exit(f"{name} did not start")
                time.sleep(0.2)


@contextmanager
def other(name: str, commands: Path) -> Iterator[Server]:
    """Run moto's server or ministack for a while."""
    server = Other(name, commands)
    try:
        yield server
    finally:
        # nothing is kept, and some ask for patience
        server.process.kill()
        server.process.wait()


def install(folder: Path) -> Path:
    """Install the others into an environment of their own, unless they are there; return its commands."""
    commands = folder / "bin"
    if not (commands / "ministack").exists():
        print(f"installing {', '.join(REQUIREMENTS.read_text().split())} into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        pip = [str(commands / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "install", "-r", str(REQUIREMENTS)], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            sys.exit(f"the others could not be installed: {why}")
    return commands


def fill_in_time(client: Client, url: str, count: int, seconds: float, pipelined: int) -> int:
    """Send until so many wait, or the time is over; return how many wait."""
    give_up_at = time.monotonic() + seconds
    sent = 0
    while sent < count and time.monotonic() < give_up_at:
        step = min(FILL_STEP, count - sent)
        fill(client, url, step, sent, pipelined)
        sent += step
    return sent


def measure(name: str, server: Server, options: argparse.Namespace) -> dict[str, str]:
    """Return a server's column: rates at few and at many waiting, and its memory."""
    column: dict[str, str] = {}
    ours = name == "local SQS"
    pipelined = 50 if ours else 1
    client = Client(server)
    empty = server.rss_mib()

    def rate(row: str, script: str, connections: int = CONNECTIONS) -> None:
        found, errors = wrk(server, script, options.seconds, connections)
        column[row] = f"{found:,.0f}/s" if found >= 10 else f"{found:.2f}/s"
        if errors != "no errors":
            column[row] += f" ({errors})"
        print(f"  {name:10} {row:55} {column[row]}", flush=True)

    url = new_queue(client, "few")
    fill(client, url, FEW, 0, pipelined)
    send = {"QueueUrl": url, "Entries": entries(url, 0)}
    receive = {"QueueUrl": url, "MaxNumberOfMessages": 10}
    looked = {**receive, "VisibilityTimeout": 0}
    rate(f"receives of 10 a second, {FEW:,} waiting", lua("ReceiveMessage", looked))
    url_cycle = new_queue(client, "cycle")
    fill(client, url_cycle, FEW, 0, pipelined)
    bodies = [lua("", {**part, "QueueUrl": url_cycle}) for part in (send, receive)]
    requests = [text.partition("[==[")[2].partition("]==]")[0] for text in bodies]
    rate(
        f"calls a second, sending, receiving, deleting 10, {FEW:,} waiting",
        bodies[0] + CYCLE % (*requests, url_cycle),
    )
    rate(
        "single sends a second",
        lua("SendMessage", {"QueueUrl": new_queue(client, "one"), "MessageBody": BODY}),
    )
    many = new_queue(client, "many")
    before = server.rss_mib()
    held = fill_in_time(client, many, options.messages, math.inf if ours else options.fill_seconds, pipelined)
    column["messages sent to it for that"] = f"{held:,}"
    column["memory: empty"] = f"{empty:.0f} MiB"
    column["memory: bytes a message of 100 bytes"] = f"{(server.rss_mib() - before) * 2**20 / held:,.0f}"
    column["waiting, by its own count"] = f"{depth(client, many):,}"
    looked["QueueUrl"] = many
    rate("receives of 10 a second at that many waiting", lua("ReceiveMessage", looked))
    return column


def count_cases(name: str, server: Server) -> str:
    """Return how many of the cases a server gets right, and say which it does not."""
    asked = Asked(f"http://127.0.0.1:{server.port}")
    wrong: list[str] = []
    for case in CASES:
        try:
            case.holds(asked)
        except Exception as error:  # whatever a server does instead is not what the sentence says
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            wrong.append(f"  {name:10} not: {case.name} ({text[:90]})")
    print("\n".join(wrong), flush=True)
    return f"{len(CASES) - len(wrong)} of {len(CASES)}"


def beside(options: argparse.Namespace) -> None:
    """Ours beside moto's server and ministack, one after the other, each on one core."""
    need_wrk()
    with tempfile.TemporaryDirectory(prefix="queuebench-emulators-") as folder:
        commands = install(options.environment or Path(folder))
        servers: dict[str, Callable[[], object]] = {
            "local SQS": lambda: running(),
            "moto": lambda: other("moto", commands),
            "ministack": lambda: other("ministack", commands),
        }
        columns: dict[str, dict[str, str]] = {}
        for name, start in servers.items():
            with start() as server:  # type: ignore[attr-defined]
                columns[name] = measure(name, server, options)
            with start() as server:  # type: ignore[attr-defined]
                columns[name]["cases right, of those written here"] = count_cases(name, server)
    print(
        f"\n| one core a server, wrk on the other, {CONNECTIONS} connections, {options.seconds} s a rate | "
        f"{' | '.join(columns)} |"
    )
    print("|---|" + "--:|" * len(columns))
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(column.get(row, '–') for column in columns.values())} |")
