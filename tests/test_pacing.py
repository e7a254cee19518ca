"""When messages are meant to be sent, by table: pure functions of time."""

from __future__ import annotations

import math
import random
from itertools import chain, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.load import pacing
from queuebench.load.curve import Curve, Stretch, steady
from queuebench.load.pacing import (
    ALLOWED_SECONDS,
    CLOSE_SECONDS,
    Flood,
    Paced,
    Pacing,
    Schedule,
    Spacing,
    of_settings,
)
from queuebench.settings import load

STEPS = Curve([Stretch(2, 10, 10), Stretch(3, 0, 0), Stretch(1, 100, 100)])
RAMP = Curve([Stretch(10, 0, 10)])
DOWN = Curve([Stretch(10, 10, 0)])


@pytest.mark.parametrize(
    ("curve", "places", "times"),
    [
        (steady(4), range(5), [0, 0.25, 0.5, 0.75, 1.0]),
        (steady(0.001), [0, 1, 2], [0, 1000, 2000]),
        (steady(100, 10), [998, 999, 1000, 1001], [9.98, 9.99]),
        (steady(0.1, 10), range(9), [0]),
        # The 20th falls on the pause, and is due when that is over.
        (STEPS, [0, 19, 20, 21, 119, 120], [0, 1.9, 5.0, 5.01, 5.99]),
        # t²/2 are due by t, and 10 t - t²/2.
        (RAMP, [0, 0.5, 2, 8, 32], [0, 1, 2, 4, 8]),
        (DOWN, [0, 9.5, 18, 42, 49.5], [0, 1, 2, 6, 9]),
        (Curve([Stretch(1, 0, 0), Stretch(1, 5, 5)]), range(6), [1.0, 1.2, 1.4, 1.6, 1.8]),
        (Curve([Stretch(5, 0, 0)]), range(3), []),
    ],
    ids=["even", "slow", "ends", "less than one", "steps", "ramp", "down", "late start", "nothing"],
)
def test_each_place_of_a_curve_has_its_time(curve: Curve, places: range, times: list[float]) -> None:
    assert curve.times(places) == pytest.approx(times)


@pytest.mark.parametrize(("seconds", "messages"), [(1, 10), (2, 20), (4, 20), (5.5, 70), (6, 120), (60, 120)])
def test_a_curve_that_is_cut_has_what_was_due_until_then(seconds: float, messages: float) -> None:
    assert STEPS.cut(seconds).messages == pytest.approx(messages)
    assert STEPS.cut(seconds).seconds == min(seconds, 6)


def test_a_curve_in_less_time_keeps_its_rates() -> None:
    squeezed = STEPS.squeezed(3)
    assert (squeezed.seconds, squeezed.messages) == (3, 60)
    assert [stretch.first for stretch in squeezed.stretches] == [10, 0, 100]


@pytest.mark.parametrize(
    ("curve", "least", "most"),
    [
        (steady(10), 0.1, 0.1),
        (steady(0.001), 1000, 1000),
        (STEPS, 3, 3.2),
        (RAMP, 1.4, 1.5),
        (DOWN, 1.4, 1.5),
    ],
)
def test_the_longest_pause_is_known(curve: Curve, least: float, most: float) -> None:
    assert least <= curve.longest_pause <= most


def taken(schedule: Schedule, *looks: tuple[float, int]) -> list[int]:
    return [len(schedule.due(now, most)) for now, most in looks]


def test_what_is_due_is_given_out_once_and_nothing_before_its_time() -> None:
    schedule = Pacing(steady(10)).schedule()
    assert schedule.due(0.0, 5) == [0.0]
    assert schedule.due(0.09, 5) == []
    assert schedule.due(0.35, 2) == pytest.approx([0.1, 0.2])
    assert schedule.due(0.35, 2) == pytest.approx([0.3])
    # Whatever became of them, the next ones keep their times.
    assert schedule.due(100.0, 1) == pytest.approx([0.4])
    assert sum(taken(schedule, *[(100.0, 1000)] * 3)) == 996


@pytest.mark.parametrize(
    ("rate", "most", "next_at"),
    [
        (10, 1000, 0.1),  # far apart: the next one
        (700, 1000, 1 / 700),  # two of them lie close together: one call each is cheap enough
        (2000, 1000, 0.0005 + CLOSE_SECONDS),
        (50_000, 1000, 0.00002 + CLOSE_SECONDS),
        (50_000, 10, 10 / 50_000),  # a batch is full before
        (50_000, 1, 1 / 50_000),
    ],
)
def test_messages_that_lie_close_together_share_a_call_and_wait_no_longer_than_that(
    rate: float, most: int, next_at: float
) -> None:
    schedule = Pacing(steady(rate)).schedule()
    assert len(schedule.due(0.0, most)) == 1
    assert schedule.next_at(0.0, most) == pytest.approx(next_at, abs=1.01 / rate if rate > 1000 else 1e-9)


def test_time_that_is_over_ends_it_and_what_was_late_is_counted() -> None:
    def schedule() -> Schedule:
        return Pacing(steady(100, 10), seconds=10).schedule()

    assert sum(taken(schedule(), *[(10.0, 100)] * 11)) == 1000
    # What was due is sent a little after the end, and no later than that.
    late = schedule()
    assert taken(late, (5.0, 1000), (10.04, 400), (10.06, 400)) == [501, 400, 0]
    assert late.next_at(10.06, 1000) == math.inf
    assert late.rest(10.06) == 99
    punctual = schedule()
    assert taken(punctual, (10.0, 1024)) == [1000]
    assert (punctual.next_at(10.0, 10), punctual.rest(10.1)) == (math.inf, 0)


def test_what_is_not_late_yet_is_not_behind() -> None:
    schedule = Pacing(steady(1000)).schedule()
    schedule.due(1.0, 500)
    # 500 … 1,000 are due, and those of the last 5 ms may still be sent in time.
    assert schedule.rest(1.0) == 501 - 1000 * ALLOWED_SECONDS
    endless = Pacing(steady(1000)).schedule()
    assert endless.rest(10.0005) == 9996


def test_a_flood_is_always_due_until_its_end() -> None:
    flood = Flood(2.0)
    assert flood.due(1.5, 3) == [1.5] * 3
    assert (flood.next_at(1.5, 3), flood.next_at(2.0, 3), flood.due(2.0, 3), flood.rest(3.0)) == (
        1.5,
        math.inf,
        [],
        0,
    )


def test_calls_that_a_quota_throttles_move_apart_until_nearly_all_go_through() -> None:
    """A simulated quota of 50 calls a second, and a publisher that has more calls to make all the time."""
    spacing, tokens, filled_at, now = Spacing(), 50.0, 0.0, 0.0
    assert spacing.begin(5.0) == spacing.begin(5.0) == 5.0
    spacing = Spacing()
    went = throttled = 0
    while now < 60.0:
        now = max(now + 0.001, spacing.begin(now))
        tokens, filled_at = min(50.0, tokens + (now - filled_at) * 50.0), now
        spacing.end(throttled=tokens < 1.0)
        if tokens < 1.0:
            throttled += now > 10.0
        else:
            tokens -= 1.0
            went += now > 10.0
    assert went == pytest.approx(50 * 50, rel=0.02)
    assert throttled < 0.08 * went
    for _ in range(2000):
        spacing.end(throttled=False)
    assert spacing.gap == 0.0


def test_poisson_arrivals_keep_the_rate_and_vary_as_they_should() -> None:
    times = list(islice(chain.from_iterable(pacing.poisson(steady(50), random.Random(5).random)), 100_000))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(100_000 / 50, rel=0.02)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    # The standard deviation of an exponential distribution is its mean.
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.03)


def test_poisson_arrivals_follow_a_curve() -> None:
    curve = Curve([Stretch(100, 10, 10), Stretch(100, 0, 0), Stretch(100, 0, 100)])
    times = list(chain.from_iterable(pacing.poisson(curve, random.Random(7).random)))
    by_stretch = [sum(start <= at < start + 100 for at in times) for start in (0, 100, 200)]
    assert by_stretch[0] == pytest.approx(1000, rel=0.15)
    assert by_stretch[1] == 0
    assert by_stretch[2] == pytest.approx(5000, rel=0.1)


def test_random_pauses_are_counted_from_one_message_to_the_next() -> None:
    chances = iter([0.5, 0.0, 0.25, *[0.1] * pacing.AT_ONCE])
    schedule = Paced(pacing.pauses(2.0, lambda: next(chances)))
    assert schedule.due(1.6, 10) == [1.0, 1.0, 1.5]


@given(
    st.lists(st.floats(0.0, 3.0), max_size=30),
    st.sampled_from([3.0, 333.3, 5000.0]),
    st.integers(1, 2000),
    st.booleans(),
)
def test_however_it_is_asked_each_message_is_given_out_once_in_order_and_in_time(
    steps: list[float], rate: float, most: int, by_chance: bool
) -> None:
    arrivals = "poisson" if by_chance else "even"
    schedule, now = Pacing(steady(rate, 20.0), arrivals, seconds=20.0).schedule(), 0.0
    found: list[float] = []
    for step in steps:
        now += step
        if (wake := schedule.next_at(now, most)) != math.inf:
            assert wake >= (found[-1] if found else 0.0)
        times = schedule.due(now, most)
        assert len(times) <= most
        assert all(at <= now and at < 20.0 for at in times)
        found += times
    assert found == sorted(found)
    if not by_chance:
        assert found == [number / rate for number in range(len(found))]


@pytest.mark.parametrize(
    ("settings", "rate", "expected"),
    [
        ({}, 0.0, None),
        ({"RATE": "250"}, 250.0, None),
        ({"RATE": "250", "DURATION": "60"}, 250.0, 15_000),
        ({"RATE": "0.3", "DURATION": "10"}, 0.3, 3),
        ({"RATE": "33.3", "DURATION": "1"}, 33.3, 34),
        ({"DURATION": "60"}, 0.0, None),
        ({"PUBLISHER_DELAY": "1", "DURATION": "60"}, 0.0, None),
    ],
    ids=str,
)
def test_settings_say_what_a_publisher_is_asked_for(
    settings: dict[str, str], rate: float, expected: int | None
) -> None:
    asked = of_settings(load(settings))
    assert (asked.rate, asked.expected) == (rate, expected)
    if expected is not None:
        assert sum(taken(asked.schedule(), *[(asked.seconds, 1000)] * 20)) == expected
