"""One fault of each important kind, done to the running pipeline; `make faults` does hundreds.

FAULTS_SEED repeats the moments of a run that failed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.faults.__main__ import Fault, inflict, line_of, plan
from tests.faults.kinds import KINDS
from tests.faults.stacks import FaultStack, Layout
from tests.faults.stock import StockStack
from tests.faults.table import page
from tests.line import Commands

SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))

SHORT = [
    ("kill -9 of the publisher", "REDIS"),
    ("kill -9 of the only subscriber", "REDIS"),
    ("kill -9 of the only subscriber", "SQS"),
    ("kill -9 of the only worker", "REDIS"),
    ("kill -9 of the endpoint", "SQS"),
    ("kill -9 of the monitor", "REDIS"),
    ("kill -9 of the broker's Redis, appendfsync always", "REDIS"),
    ("kill -9 of the queue's Redis, appendfsync always", "REDIS"),
    ("kill -9 of the local SQS", "SQS"),
    ("the endpoint stopped (SIGSTOP) for 6 to 8 s", "REDIS"),
    ("SIGTERM of the worker", "SQS"),
    ("the local SQS delivers 10 % twice", "SQS"),
    ("headers that drip without end in 2 %", "REDIS"),
    ("dead letters that can't be kept for 5 to 10 s", "REDIS"),
    ("replies of Redis to the publisher cut", "REDIS"),
    ("replies of the broker's Redis to the subscriber cut", "REDIS"),
    ("half-open connections between worker and broker while idle", "REDIS"),
]
_BY_NAME = {kind.name: kind for kind in KINDS}
# One object for each stack, so that pytest keeps it for all the faults that need the same.
_STACKS: dict[str, tuple[str, Layout]] = {}


def _cases() -> Iterator[object]:
    for name, queue in sorted(SHORT, key=lambda pair: (pair[1], repr(_BY_NAME[pair[0]].layout))):
        layout = _BY_NAME[name].layout
        shared = _STACKS.setdefault(f"{queue} {layout!r}", (queue, layout))
        yield pytest.param(shared, name, id=f"{name}-{queue}")


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultStack]:
    queue, layout = request.param
    folder: Path = tmp_path_factory.mktemp("faults")
    with FaultStack(folder, queue, layout) as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize(("stack", "name"), list(_cases()), indirect=["stack"], scope="module")
def test_nothing_is_lost_and_only_what_was_in_flight_comes_twice(stack: FaultStack, name: str) -> None:
    record = inflict(Fault(SEED, 0, stack.queue, _BY_NAME[name]), stack, messages=1500)
    assert not record["flaws"], line_of(record, 1, 1)


@pytest.mark.slow
def test_plain_celery_is_counted_the_same_way(tmp_path: Path) -> None:
    kind = _BY_NAME["interim answers before 5 % of the answers"]
    with StockStack(tmp_path, "REDIS", kind.layout) as stack:
        record = inflict(Fault(SEED, 0, "REDIS", kind), stack, messages=300)
    assert not record["flaws"], line_of(record, 1, 1)
    assert (record["published"], record["waiting"]) == (300, 0)
    # urllib3 takes some interim answers for the final ones: what comes of that is not ours to say.
    assert {"lost", "duplicated", "dead_lettered", "recovery"} <= record.keys()


def test_a_plan_is_the_same_for_the_same_seed_and_has_every_kind_on_every_queue() -> None:
    planned = plan(5, 300, ["REDIS", "SQS"])
    assert planned == plan(5, 300, ["REDIS", "SQS"]) != plan(6, 300, ["REDIS", "SQS"])
    assert {(f.kind.name, f.queue) for f in planned} == {(k.name, q) for k in KINDS for q in k.queues}
    assert sum(f.kind.repeats for f in planned) >= 300


def test_plain_celery_is_planned_what_it_has_a_part_for() -> None:
    planned = {fault.kind.name for fault in plan(5, 1000, ["REDIS"], stock=True)}
    assert "kill -9 of the only worker" in planned and "BUSY from the broker's Redis for 10 s" in planned
    assert not any("subscriber" in name or "SQS" in name or "queue's Redis" in name for name in planned)


def test_every_kind_is_a_row_of_the_page_in_the_docs() -> None:
    assert len(_BY_NAME) == len(KINDS), "two kinds have the same name"
    rows = (ROOT / "docs" / "faults.md").read_text()
    assert [kind.name for kind in KINDS if f"| {kind.name} |" not in rows] == []


def test_the_page_counts_the_last_record_of_each_fault_and_shows_both_side_by_side() -> None:
    done: dict[str, Any] = {
        "seed": 1, "number": 0, "queue": "SQS", "kind": "kill -9 of the only worker", "repeats": 1,
        "flaws": [], "published": 3000, "lost": 0, "duplicated": 7, "bound": 200, "dead_lettered": 0,
        "recovery": 12.04,
    }  # fmt: skip
    broken = done | {"flaws": ["lost: [[3, 4]]"], "lost": 2}
    other = done | {"number": 1, "queue": "REDIS", "duplicated": 1, "recovery": 3.0}
    lossy = done | {"kind": "kill -9 of the broker's Redis, a replica takes over", "lost": 5}
    stock = done | {"queue": "REDIS", "lost": 4, "waiting": 9, "ended": ["worker-1 ended"], "hangs": []}
    text = page([broken, done, other, lossy], [stock])
    (row,) = [line for line in text.splitlines() if line.startswith("| kill -9 of the only worker |")]
    ours, plain = "1 + 1 | 0 | 8 | 400 | 0 | 12.0", "1 | 4 | 7 | 0 | 9 (1 × the worker ended) | > 90"
    assert row == f"| kill -9 of the only worker | {ours} | {plain} |"
    assert "3 faults (1 with Redis, 2 with the local SQS" in text
    assert "**lost 5**. 0 runs broke a promise; 1 others had at first" in text
    assert "(these, and `everysec`) 5 were lost" in text
    assert "**lost\n4**, 7 repeated, 0 set aside, 9 not back" in text
    assert "{" not in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("chunks", "commands"),
    [
        ([b"*1\r\n$4\r\nPING\r\n"], [b"PING"]),
        ([b"*2\r\n$3\r\nGET\r\n$3\r\n*1\r\r\n*1\r\n$4\r\nEXEC\r\n"], [b"GET", b"EXEC"]),
        ([b"*2\r\n$3\r\nG", b"ET\r\n$", b"2\r\nab\r", b"\n*1\r\n$4\r\nPING\r\n"], [b"GET", b"PING"]),
    ],
)
def test_what_a_client_of_redis_sends_is_taken_apart(chunks: list[bytes], commands: list[bytes]) -> None:
    apart = Commands()
    found = [command for chunk in chunks for command in apart.split(chunk)]
    assert b"".join(found) == b"".join(chunks)
    assert [command.split(b"\r\n")[2] for command in found] == commands
