"""One fault of each important kind, done to the running pipeline; `make faults` does hundreds.

FAULTS_SEED repeats the moments of a run that failed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuebench.bench.stack import Stack
from tests.faults.__main__ import Fault, inflict, line_of, plan, stack_of
from tests.faults.kinds import KINDS, Layout

pytestmark = pytest.mark.slow

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
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    queue, layout = request.param
    folder: Path = tmp_path_factory.mktemp("faults")
    with stack_of(folder, queue, layout) as stack:
        yield stack


@pytest.mark.parametrize(("stack", "name"), list(_cases()), indirect=["stack"], scope="module")
def test_nothing_is_lost_and_only_what_was_in_flight_comes_twice(stack: Stack, name: str) -> None:
    record = inflict(Fault(SEED, 0, stack.queue, _BY_NAME[name]), stack, messages=1500)
    assert not record["flaws"], line_of(record, 1, 1)


def test_a_plan_is_the_same_for_the_same_seed_and_has_every_kind_on_every_queue() -> None:
    planned = plan(5, 200, ["REDIS", "SQS"])
    assert planned == plan(5, 200, ["REDIS", "SQS"]) != plan(6, 200, ["REDIS", "SQS"])
    assert {(f.kind.name, f.queue) for f in planned} == {(k.name, q) for k in KINDS for q in k.queues}
    assert sum(f.kind.repeats for f in planned) >= 200
