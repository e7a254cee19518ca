"""Whether a rate held: the trend of the age, and what else decides."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.experiment import search as searching
from queuebench.experiment.search import Found, Seen, search
from queuebench.figures import requirement, steady
from queuebench.figures.limits import Kind, Why
from queuebench.figures.records import Load, Summary
from queuebench.figures.steady import Sign, judge, trend
from queuebench.measuring.age import Age
from queuebench.measuring.histogram import Histogram
from queuebench.measuring.series import Point
from tests.records import START, shipped, summary_of

Q = {"p99": "queue_wait.p99 <= 1 s"}
REQUIRED = [requirement.parse(Q["p99"])]


# ---- age ----


def waits(*seconds: float) -> Histogram:
    found = Histogram()
    for each in seconds:
        found.record(each)
    return found


def test_the_age_is_what_was_taken_last_and_grows_with_the_clock_while_nothing_is() -> None:
    age, all_of_it = Age(), Histogram()
    assert age.look(all_of_it, 0, 100.0) is None
    assert age.look(all_of_it, 5, 101.0) is None  # something waits, for how long nobody knows
    all_of_it = waits(*[0.1] * 100)
    assert age.look(all_of_it, 5, 102.0) == pytest.approx(0.1, rel=0.01)
    later = waits(*[0.1] * 100, *[2.0] * 100)
    assert age.look(later, 5, 103.0) == pytest.approx(2.0, rel=0.01)  # of the last second alone
    assert age.look(later, 5, 104.0) == pytest.approx(3.0, rel=0.01)
    assert age.look(later, 5, 106.5) == pytest.approx(5.5, rel=0.01)
    assert age.look(later, 0, 107.0) is None  # nothing waits


def test_a_killed_process_whose_totals_are_gone_leaves_the_age_as_it_is() -> None:
    age = Age()
    assert age.look(waits(*[0.2] * 10), 1, 1.0) == pytest.approx(0.2, rel=0.01)
    assert age.look(waits(*[0.2] * 4), 1, 2.0) == pytest.approx(1.2, rel=0.01)


# ---- trend ----


def test_the_trend_is_that_of_least_squares_with_students_interval() -> None:
    # Checked by hand: x 0..4, y 1 3 2 5 4: slope 0.8, rest 3.6, interval 0.8 ± 3.182 · √(1.2 / 10).
    found = trend(list(enumerate([1.0, 3.0, 2.0, 5.0, 4.0])))
    assert found is not None
    assert found.slope == pytest.approx(0.8)
    assert found.high - found.slope == pytest.approx(3.182 * (1.2 / 10) ** 0.5)
    assert trend([(0.0, 1.0)] * 3) is None and trend([(1.0, 1.0)] * 9) is None


# ---- a rate ----


def points(
    ages: list[float | None], celery: list[float | None] | None = None, per_second: int = 100
) -> list[Point]:
    return [
        Point(
            at=START + second,
            published=second * per_second,
            received=second * per_second,
            pushed=second * per_second // 2,
            queue_age=age,
            celery_age=None if celery is None else celery[second],
        )
        for second, age in enumerate(ages)
    ]


def run(rate: float = 100.0, **more: object) -> Summary:
    made = summary_of(shipped(1000, queue_wait=0.05))
    kept = Load(asked=rate, offered=rate, intended=1000)
    return msgspec.structs.replace(made, **{"load": kept, **more})


FLAT_CELERY: list[float | None] = [0.01] * 100


def judged(ages: list[float | None], rate: float = 100.0, **more: object) -> steady.Judgement:
    celery = more.pop("celery", None)
    made = run(**more)  # type: ignore[arg-type]
    celery = FLAT_CELERY[: len(ages)] if celery is None else celery
    return judge(made, points(ages, celery), rate, 99.0, REQUIRED)  # type: ignore[arg-type]


FLAT: list[float | None] = [0.05, 0.052, 0.049, 0.051, 0.05, 0.05]
GROWS: list[float | None] = [0.05, 0.15, 0.26, 0.34, 0.45, 0.56]


@pytest.mark.parametrize(
    ("found", "held", "sign"),
    [
        (judged(FLAT), True, Sign.STEADY),
        (judged(GROWS), False, Sign.QUEUE_GROWS),
        (judged(FLAT, celery=GROWS), False, Sign.CELERY_GROWS),
        (judged(FLAT, rate=103.0), None, Sign.PUBLISHER),
        (judged(FLAT, load=Load(asked=100.0, intended=1000, behind=20)), None, Sign.PUBLISHER),
        (judged(FLAT, load=Load(asked=100.0, intended=1000, behind=4)), True, Sign.STEADY),
        (
            judged(FLAT, valid=False, flaws=[msgspec.convert({"code": "set_aside"}, type=object)]),
            None,
            Sign.NOT_VALID,
        ),
        (judged([0.0, 3.0, 0.1, 2.5, 0.2, 3.5]), None, Sign.UNSURE),
        (judged([None] * 6), None, Sign.UNSURE),
        (judged(FLAT, celery=[None] * 6), None, Sign.UNSURE),  # nothing was begun that is known
        (judged([0.05, 0.06, 0.05]), None, Sign.UNSURE),
        (judged([0.05 + 0.001 * second for second in range(20)]), True, Sign.STEADY),  # 0.1 % too much
        (judged([0.05 + 0.02 * second for second in range(20)]), False, Sign.QUEUE_GROWS),  # 2 %
    ],
)
def test_a_rate_holds_or_not_or_it_cannot_be_told(
    found: steady.Judgement, held: bool | None, sign: Sign
) -> None:
    assert (found.held, found.sign) == (held, sign)


def test_what_came_through_is_told_where_a_rate_does_not_hold() -> None:
    assert judged(GROWS).carried == pytest.approx(100.0)
    assert judged(FLAT, celery=GROWS).carried == pytest.approx(50.0)


def test_a_requirement_that_is_not_met_fails_a_steady_rate() -> None:
    slow = [requirement.parse("queue_wait.p99 <= 10 ms")]
    found = judge(run(), points(FLAT, FLAT_CELERY), 100.0, 99.0, slow)
    assert (found.held, found.sign) == (False, Sign.REQUIRED)


# ---- the search ----


def searched(
    ceiling: float, noise: float, first: float, seed: int
) -> tuple[Found, list[tuple[float, bool, float]]]:
    """Search in a system that carries `ceiling`, as a look of some seconds sees it."""
    chance, looking, seen = random.Random(seed), search(first), []
    probe = next(looking)
    while True:
        sees = ceiling * (1.0 + chance.gauss(0.0, noise * (5.0 / probe.seconds) ** 0.5))
        held = probe.rate <= sees
        seen.append((probe.rate, held, probe.seconds))
        try:
            probe = looking.send(Seen(held, None if held else sees))
        except StopIteration as ended:
            return ended.value, seen


@given(
    ceiling=st.floats(0.1, 1e6),
    noise=st.floats(0.0, 0.03),
    first=st.floats(0.1, 1e6),
    seed=st.integers(0, 10**6),
)
def test_a_search_ends_brackets_the_ceiling_and_reports_only_what_held(
    ceiling: float, noise: float, first: float, seed: int
) -> None:
    found, seen = searched(ceiling, noise, first, seed)
    assert len(seen) <= searching.MOST_PROBES
    if found.why is Why.PROVEN:
        assert found.rate is not None and found.fails_at is not None
        assert (found.rate, True, 60.0) in seen
        last = [held for rate, held, _ in seen if rate == found.rate][-1]
        assert last
        assert found.rate < found.fails_at <= found.rate * 1.0501
        assert any(not held and rate <= found.rate * 1.0501 and s >= 20 for rate, held, s in seen)
        slack = 4.0 * noise + 0.001
        assert found.rate <= ceiling * (1 + slack) and found.fails_at >= ceiling * (1 - slack)


@given(ceiling=st.floats(0.1, 1e6), first=st.floats(0.1, 1e6))
def test_without_noise_a_search_is_within_three_percent(ceiling: float, first: float) -> None:
    found, _ = searched(ceiling, 0.0, first, 1)
    assert found.why is Why.PROVEN and found.rate is not None
    assert 0.97 * ceiling <= found.rate <= ceiling


@given(answers=st.lists(st.sampled_from([True, False, None]), min_size=1), first=st.floats(0.1, 1e6))
def test_a_search_ends_whatever_it_is_told(answers: list[bool | None], first: float) -> None:
    looking, told = search(first), 0
    probe = next(looking)
    with pytest.raises(StopIteration) as ended:
        while told < 1000:
            assert probe.rate > 0
            probe = looking.send(Seen(answers[told % len(answers)]))
            told += 1
    found = ended.value.value
    assert told < searching.MOST_PROBES
    if found.rate and found.fails_at:
        assert found.rate < found.fails_at


@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_a_search_that_is_stopped_says_what_it_knows(at: int) -> None:
    looking = search(100.0)
    probe, held = next(looking), {}
    for turn in range(20):
        held[probe.rate] = probe.rate <= 1000.0
        try:
            probe = looking.send(Seen(held[probe.rate], None, stop=turn == at))
        except StopIteration as ended:
            found = ended.value
            break
    assert found.why is Why.TIME
    assert found.rate == max((rate for rate, did in held.items() if did), default=None)
    assert found.fails_at == min((rate for rate, did in held.items() if not did), default=None)


def test_a_publisher_that_can_make_no_more_ends_the_search_with_the_rate_that_it_keeps() -> None:
    looking = search(100.0)
    assert next(looking).kind is Kind.SHORT
    assert looking.send(Seen(True)).rate == 400.0
    capped = looking.send(Seen(None, carried=300.0, capped=True)).rate
    assert capped == pytest.approx(291.0)
    with pytest.raises(StopIteration) as ended:
        looking.send(Seen(True))
    assert ended.value.value == Found(capped, None, Why.CAPPED)


def test_below_the_rate_that_a_publisher_keeps_the_queue_s_limit_is_found() -> None:
    looking = search(100.0)
    next(looking)
    looking.send(Seen(True))
    probe = looking.send(Seen(None, carried=300.0, capped=True))
    while True:
        try:
            probe = looking.send(Seen(probe.rate <= 200.0, 200.0))
        except StopIteration as ended:
            assert ended.value.why is Why.PROVEN and 194 <= ended.value.rate <= 200
            return
