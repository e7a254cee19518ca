import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.measuring.histogram import GAMMA, Histogram

durations = st.floats(min_value=-10.0, max_value=1e5, allow_nan=False)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_an_empty_histogram_has_no_count_and_only_zeros() -> None:
    empty = Histogram()
    assert (empty.count, empty.quantile(0.5), empty.mean_ms, empty.max_ms) == (0, 0.0, 0.0, 0.0)
    assert empty.coarse() == []


def test_one_duration_is_every_quantile_of_itself() -> None:
    one = of([0.3])
    for share in (0.0, 0.5, 0.99, 1.0):
        assert one.quantile(share) == pytest.approx(300.0, rel=0.005)
    assert one.mean_ms == pytest.approx(300.0)
    assert one.max_ms == 300.0


def test_negative_durations_are_counted_apart_and_the_lowest_is_kept() -> None:
    mixed = of([-0.2, -0.05, 1.0])
    assert (mixed.count, mixed.negative, mixed.lowest_ms) == (3, 2, -200.0)
    assert mixed.quantile(0.5) == 0.0
    assert mixed.quantile(0.99) == pytest.approx(1000.0, rel=0.005)


def test_recording_n_at_once_is_recording_one_n_times() -> None:
    at_once = Histogram()
    at_once.record(0.02, 500)
    assert at_once.frozen() == of([0.02] * 500).frozen()


@given(st.one_of(st.lists(durations), st.lists(st.floats(min_value=1e-5, max_value=1e5))))
def test_recording_many_together_is_recording_each(values: list[float]) -> None:
    together, each = Histogram(), of(values)
    together.record_each(values)
    assert together.buckets == each.buckets
    assert (together.negative, together.lowest_ms) == (each.negative, each.lowest_ms)
    assert (together.max_ms, together.count) == (each.max_ms, each.count)
    assert together.total_ns == pytest.approx(each.total_ns, rel=1e-9, abs=len(values))


@given(st.lists(st.floats(min_value=1e-5, max_value=1e5), min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_off_by_at_most_half_a_percent(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1] * 1000.0
    assert of(values).quantile(share) == pytest.approx(exact, rel=(GAMMA - 1) / (GAMMA + 1) + 1e-9)


@given(st.lists(st.lists(durations), min_size=1, max_size=5))
def test_merged_parts_equal_one_histogram_of_everything(parts: list[list[float]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(of(part))
    whole = of([value for part in parts for value in part])
    assert merged.frozen() == whole.frozen()


@given(st.lists(durations))
def test_json_keeps_everything(values: list[float]) -> None:
    histogram = of(values)
    assert Histogram.of(histogram.frozen()).frozen() == histogram.frozen()


@given(st.lists(st.floats(min_value=0.0, max_value=1e5)))
def test_what_a_chart_gets_has_every_duration_in_rising_buckets(values: list[float]) -> None:
    coarse = of(values).coarse()
    assert sum(count for _, count in coarse) == len(values)
    assert [end for end, _ in coarse] == sorted({end for end, _ in coarse})
