"""The parts of tasks share slots, and each task ends with its own last part."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gevent import GreenletExit

from queuebench.pipeline.slots import Slots


def test_every_part_is_done_once_and_those_that_failed_come_back_with_the_reason() -> None:
    done: list[int] = []

    def act(part: int) -> None:
        done.append(part)
        if part % 3 == 0:
            raise ValueError(part)

    failed = Slots(4).each(act, range(10))
    assert sorted(part for part, _ in failed) == [0, 3, 6, 9]
    assert all(failure.args == (part,) for part, failure in failed)
    assert sorted(done) == list(range(10))


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GreenletExit])
def test_a_part_that_is_told_to_end_is_not_done_and_its_thread_goes_on(end: type[BaseException]) -> None:
    def act(part: int) -> None:
        if part == 1:
            raise end

    slots = Slots(1)
    ((part, failure),) = slots.each(act, range(3))
    assert part == 1 and isinstance(failure, end)
    assert not slots.each(act, (2,))


def test_a_place_that_is_lent_is_anothers() -> None:
    free = threading.Event()
    slots = Slots(1, most=2)

    def wait(part: int) -> None:
        slots.lend(1)
        assert free.wait(10)
        slots.lend(-1)

    with ThreadPoolExecutor(1) as tasks:
        waiting = tasks.submit(slots.each, wait, (0,))
        assert not slots.each(lambda _: None, range(10))
        assert not waiting.done()
        free.set()
        assert not waiting.result(10)


def test_no_parts_are_done_at_once() -> None:
    assert not Slots(1).each(lambda _: None, ())


def test_no_more_parts_are_under_way_than_there_are_slots() -> None:
    full, free = threading.Barrier(4, timeout=10), threading.Event()
    lock, under_way, most = threading.Lock(), 0, 0

    def act(part: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        if part < 3:
            full.wait()
        assert free.wait(10)
        with lock:
            under_way -= 1

    slots = Slots(3)
    with ThreadPoolExecutor(2) as tasks:
        first = tasks.submit(slots.each, act, range(3))
        full.wait()
        second = tasks.submit(slots.each, act, range(3, 20))
        free.set()
        assert not first.result(10)
        assert not second.result(10)
    assert most == 3


def test_a_slow_part_holds_up_no_other_task() -> None:
    free = threading.Event()
    slots = Slots(2)
    with ThreadPoolExecutor(1) as tasks:
        slow = tasks.submit(slots.each, lambda _: free.wait(10), (0,))
        assert not slots.each(lambda _: None, range(100))
        assert not slow.done()
        free.set()
        assert not slow.result(10)
