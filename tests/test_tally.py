"""The endpoint's tally: exact, and small whatever the ids are."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuebench.endpoint.tally import LONGEST_ID, PAGE, Tally, kept_id

numbers = st.one_of(st.integers(0, 3 * PAGE), st.integers(0, 10**15 - 1))


@given(st.lists(numbers, max_size=60))
def test_numbers_are_told_exactly(arrived: list[int]) -> None:
    tally = Tally()
    for number in arrived:
        assert tally.add(f"a-run-{number}") == "a-run"
    assert {n for start, end in tally.numbers("a-run") for n in range(start, end + 1)} == set(arrived)
    assert tally.distinct("a-run") == len(set(arrived))
    assert tally.duplicates("a-run") == len(arrived) - len(set(arrived))
    assert (tally.distinct(""), tally.distinct("other"), list(tally.numbers("other"))) == (0, 0, [])


def test_a_run_without_gaps_is_one_range() -> None:
    tally = Tally()
    for number in random.Random(1).sample(range(20_000), 20_000):
        tally.add(f"run-{number}")
    assert list(tally.numbers("run")) == [(0, 19_999)]


def test_ids_that_number_nothing_are_counted_too() -> None:
    tally = Tally()
    for id in ("order", "order-05", "order-x", "-5", "order", "order-1234567890123456"):
        assert tally.add(id) == ""
    assert (tally.distinct(""), tally.duplicates("")) == (5, 1)


CHANCE = random.Random(5)


@pytest.mark.parametrize(
    ("ids", "bytes_each"),
    [
        ([f"order-{CHANCE.randrange(10**13, 10**14)}" for _ in range(20_000)], 250),
        ([f"{CHANCE.randrange(10**9)}-5" for _ in range(20_000)], 700),
        ([f"an-order-{CHANCE.random()}-" + "x" * 250 for _ in range(20_000)], 200),
        ([f"run-{number}" for number in range(20_000)], 2),
    ],
    ids=["sparse numbers", "runs of one", "no numbers", "a run"],
)
def test_twenty_thousand_ids_cost_little_memory(ids: Iterable[str], bytes_each: int) -> None:
    tracemalloc.start()
    tally = Tally()
    for id in ids:
        tally.add(id)
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 20_000 * bytes_each


def test_an_id_is_kept_as_one_short_line_and_two_never_as_one() -> None:
    assert kept_id("run-5") == "run-5"
    odd = [
        "a\nb-1",
        "a\rb-1",
        "a\x00",
        "x" * (LONGEST_ID + 1),
        "x" * (LONGEST_ID + 2),
        "y" * 100_000,
        "é\x85",
    ]
    kept = {kept_id(id) for id in odd}
    assert len(kept) == len(odd)
    assert all(len(id) <= LONGEST_ID and id.isprintable() for id in kept)
    assert {kept_id(id) for id in kept} == kept
