"""Part `beside` of benchmarks.local_sqs: the local SQS, moto's server and ministack, asked the same."""

import argparse
import math
import time

from benchmarks.sqs_cases import CASES
from benchmarks.sqs_differences import wrong_cases
from benchmarks.sqs_load import BODY, Client, Server, depth, entries, fill, lua, need_wrk, new_queue, wrk
from benchmarks.sqs_others import servers

FEW = 1_000
# so few that a server that takes 100 ms a call still answers within a rate's seconds
CONNECTIONS = 4
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
        cpu = server.cpu_seconds()
        found, errors = wrk(server, script, options.seconds, connections)
        cpu = server.cpu_seconds() - cpu
        column[row] = f"{_few(found)}/s"
        # whatever else the machine does, this is what a core would do
        column[row] += f"; {_few(found * options.seconds / cpu)} a CPU second" if cpu else ""
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


def _few(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2f}"


def beside(options: argparse.Namespace) -> None:
    """Ours beside moto's server and ministack, one after the other, each on one core."""
    need_wrk()
    with servers(options.environment) as starts:
        columns: dict[str, dict[str, str]] = {}
        for name, start in starts.items():
            with start() as server:
                columns[name] = measure(name, server, options)
            with start() as server:
                wrong = wrong_cases(name, server)
            columns[name]["cases right, of those written here"] = f"{len(CASES) - len(wrong)} of {len(CASES)}"
    print(
        f"\n| one core a server, wrk on the other, {CONNECTIONS} connections, {options.seconds} s a rate | "
        f"{' | '.join(columns)} |"
    )
    print("|---|" + "--:|" * len(columns))
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(column.get(row, '–') for column in columns.values())} |")
