"""Which queue: what decides it, where it turns, and when there is no answer."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from queuebench.figures.answer import Reason, of_runs
from queuebench.figures.comparison import group
from queuebench.figures.limits import RateLimit, Why
from queuebench.figures.records import Load, Scope, Summary
from queuebench.report import words
from queuebench.report.answer import sentences
from queuebench.report.page import page_data
from queuebench.report.terminal import show
from tests.records import shipped, summary_of

BEHIND = Load(asked=278.0, offered=200.0, intended=4000, behind=900)
SQS = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}


def run(queue: str, *, rate: float = 278.0, usd: float = 23.36, wait: float = 0.002, **more: Any) -> Summary:
    made = summary_of(
        shipped(4000, queue_wait=wait, celery_wait=0.01, settings=SQS if queue == "SQS" else None)
    )
    paced = Load(asked=rate, offered=rate, duration=15.0, intended=4000)
    cost = msgspec.structs.replace(
        made.cost,
        queue_usd_per_month=usd,
        break_even_messages_per_day=2_500_000 if queue == "SQS" else None,
    )
    return msgspec.structs.replace(made, **{"load": paced, "cost": cost, **more})


def answer_of(*runs: Summary, limits: tuple[RateLimit, ...] = ()) -> Any:
    return of_runs(group(runs), limits)


def limit_of(label: str, rate: float | None, fails_at: float | None, why: Why = Why.TIME) -> RateLimit:
    return RateLimit("", label, Scope.QUEUE, rate, fails_at, why, [], {}, 1, 0)


def test_of_two_that_hold_the_cheaper_one_is_chosen_and_where_it_turns_is_said() -> None:
    limits = limit_of("Redis", 20_000, None), limit_of("local SQS", 1_200, 1_300)
    found = answer_of(run("REDIS"), run("SQS", usd=9.33, wait=0.12), limits=limits)
    assert (found.reason, found.chosen.label) == (Reason.PRICE, "local SQS")
    said = sentences(found)
    assert said[0] == (
        "Which queue? local SQS. At 278/s both held here, and for 1,000,000 messages a day it costs $9.33 a "
        "month, Redis $23.36."
    )
    assert "carries 1,200/s here, 1,300/s is too much, by a short search" in said[1]
    assert said[-1].startswith("It turns to Redis: from 2,500,000 messages a day on, by price; or where more")
    assert "where a wait of 120 ms is too long" in said[-1]


@pytest.mark.parametrize(
    ("redis", "sqs", "reason", "chosen"),
    [
        ({}, {"usd": 30.0}, Reason.PRICE, "Redis"),
        ({"usd": 9.33, "wait": 0.1}, {"usd": 9.34, "wait": 0.01}, Reason.SPEED, "local SQS"),
        ({}, {"usd": 1.0, "wait": 2.0}, Reason.ONLY_ONE, "Redis"),
        (
            {"load": Load(asked=278.0, offered=200.0, intended=4000, behind=900)},
            {},
            Reason.ONLY_ONE,
            "local SQS",
        ),
        ({"wait": 3.0}, {"wait": 3.0}, Reason.NONE, None),
    ],
)
def test_what_decides(redis: dict[str, Any], sqs: dict[str, Any], reason: Reason, chosen: str | None) -> None:
    found = answer_of(run("REDIS", **redis), run("SQS", **sqs))
    assert found.reason is reason
    assert (found.chosen.label if found.chosen else None) == chosen
    assert sentences(found)[0].startswith("Which queue?")
    if reason in (Reason.NONE, Reason.ONLY_ONE):
        assert any("did not hold" in line for line in sentences(found))


def test_another_price_turns_the_answer() -> None:
    assert answer_of(run("REDIS"), run("SQS", usd=15.0)).chosen.label == "local SQS"
    assert answer_of(run("REDIS", usd=14.0), run("SQS", usd=15.0)).chosen.label == "Redis"


def test_below_the_volume_where_a_redis_is_as_dear_sqs_is_the_cheaper_one() -> None:
    found = answer_of(run("REDIS"), run("SQS", usd=25.37))
    assert found.chosen.label == "Redis"
    assert sentences(found)[-1].startswith("It turns to local SQS: below 2,500,000 messages a day, by price")


def test_one_queue_or_one_scope_gives_no_answer() -> None:
    assert answer_of(run("REDIS")) is None
    drained = msgspec.structs.replace(run("SQS"), scope=Scope.QUEUE)
    assert answer_of(run("REDIS"), drained) is None


def test_queues_that_were_asked_for_other_rates_are_not_compared() -> None:
    assert answer_of(run("REDIS", rate=278.0), run("SQS", rate=100.0)) is None


def test_terminal_and_page_begin_with_the_answer() -> None:
    runs = [run("REDIS"), run("SQS", usd=9.33)]
    out = io.StringIO()
    show(runs, file=out)
    first = out.getvalue().splitlines()[0]
    assert first.startswith("Which queue? local SQS.")
    data = page_data([(one, []) for one in runs])
    assert data["answer"][0].startswith("Which queue? local SQS.")
    assert words.group_name(group(runs)[0]) == "Redis"
