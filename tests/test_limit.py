"""`limit`: real ceilings that are known are found, and what cannot be searched is one clear line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.limit import CASES, Case, searched
from queuebench.errors import QueueBenchError
from queuebench.experiment import limit
from queuebench.figures.limits import Kind, RateLimit, Why
from queuebench.figures.records import Scope
from queuebench.report import limits as shown

# Shorter than what a person would trust, and long enough to tell 10 %.
SECONDS = {Kind.SHORT: 4.0, Kind.LONG: 6.0, Kind.PROOF: 12.0}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_ceiling_that_is_known_is_found(case: Case, tmp_path: Path) -> None:
    near = replace(case, first=1.3 * case.ceiling)
    found = searched(near, tmp_path, proof=False, within_seconds=90.0, seconds=SECONDS)
    assert found.scope is (Scope.WHOLE if case.workers else Scope.QUEUE)
    # How near it comes is measured by the benchmark: a busy machine carries less, and none carries more.
    if found.rate is None or found.fails_at is None:
        assert found.why in (Why.TIME, Why.UNSURE, Why.CAPPED), found
    assert (found.rate or 0.0) <= 1.1 * case.ceiling, found
    assert found.rate is None or found.fails_at is None or found.rate < found.fails_at


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--queue", "KAFKA"], "KAFKA"),
        (["--scope", "half"], "whole or queue is needed"),
        (["--vary", "SUBSCRIBERS=0"], "whole number from 1 to 100"),
        (["--vary", "QUEUE=REDIS"], "choose queues with --queue"),
        (["--require", "lots < 1"], "is no figure"),
        (["--set", "WORKER_SLOTS=none"], "WORKER_SLOTS"),
    ],
)
def test_what_cannot_be_searched_is_one_clear_line(argv: list[str], said: str) -> None:
    with pytest.raises(QueueBenchError) as caught:
        limit.main(argv)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def found(why: Why, rate: float | None, fails_at: float | None) -> RateLimit:
    return RateLimit("REDIS", "Redis", Scope.QUEUE, rate, fails_at, why, [], {}, 1, 0)


def test_the_highest_rate_over_a_setting_is_a_curve() -> None:
    limits = [
        msgspec.structs.replace(
            found(Why.PROVEN, rate, 1.05 * rate), varied={"SUBSCRIBERS": value}, proven=True
        )
        for value, rate in (("1", 900.0), ("2", 1700.0))
    ]
    page = shown.page(limits)
    assert page.count('"kind":"curves"') == 1 and "holds 1,700/s" in page


@pytest.mark.parametrize(
    ("limit_found", "said", "code"),
    [
        (found(Why.PROVEN, 900.0, 940.0), "holds 900/s, 940/s fails; held for a minute more", 0),
        (found(Why.CONFIRMED, 900.0, 940.0), "not proven", 0),
        (found(Why.CAPPED, 900.0, None), "at least so much", 1),
        (found(Why.TIME, None, 940.0), "no rate was seen to hold, and 940/s fails", 1),
        (found(Why.UNSURE, 900.0, None), "it cannot be told", 1),
    ],
)
def test_what_was_not_proven_is_not_said_to_be(
    limit_found: RateLimit, said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in shown.sentence(limit_found)
    assert shown.show([limit_found]) == code
