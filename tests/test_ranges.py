import itertools

from hypothesis import given
from hypothesis import strategies as st

from queuebench.measuring.ranges import Ranges

pairs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=12,
)


def numbers(ranges: Ranges) -> set[int]:
    return {number for start, end in ranges for number in range(start, end + 1)}


def of(spans: list[tuple[int, int]]) -> set[int]:
    return {number for start, end in spans for number in range(start, end + 1)}


@given(pairs)
def test_ranges_are_a_set_kept_as_few_sorted_spans(spans: list[tuple[int, int]]) -> None:
    ranges = Ranges(spans)
    assert numbers(ranges) == of(spans)
    assert len(ranges) == len(of(spans))
    kept = list(ranges)
    assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(kept))
    assert all((number in ranges) == (number in of(spans)) for number in range(80))


@given(pairs, pairs)
def test_union_and_difference_are_those_of_sets(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert numbers(Ranges(one) | Ranges(other)) == of(one) | of(other)
    assert numbers(Ranges(one) - Ranges(other)) == of(one) - of(other)


@given(pairs)
def test_json_keeps_everything(spans: list[tuple[int, int]]) -> None:
    assert list(Ranges(Ranges(spans).to_json())) == list(Ranges(spans))


def test_a_million_numbers_out_of_order_end_as_one_span() -> None:
    ranges = Ranges()
    for first in range(0, 1_000_000, 20):
        ranges.add(first + 10, first + 19)
        ranges.add(first, first + 9)
    assert list(ranges) == [(0, 999_999)]


def test_a_span_that_ends_before_it_starts_holds_nothing() -> None:
    assert list(Ranges([(10, 5), (3, 4), (0, -1)])) == [(3, 4)]


def test_the_cost_of_a_set_is_that_of_its_spans_however_many_numbers_they_hold() -> None:
    wide = Ranges([(0, 10**15)])
    assert (wide | Ranges([(0, 10**15 + 1)])).to_json() == [(0, 10**15 + 1)]
