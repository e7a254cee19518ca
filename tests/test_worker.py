"""What a worker has under way, against a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from celery.exceptions import Reject
from gevent import GreenletExit

from queuebench import settings
from queuebench.message import Message
from queuebench.pipeline.worker import Worker
from tests.held_endpoint import Held

SLOTS = 3


@pytest.fixture
def worker(held: Held) -> Worker:
    return Worker(settings.load({"PUSH_URL": held.url, "WORKER_SLOTS": str(SLOTS)}))


def message(number: int) -> Message:
    return Message(f"run-{number}", "+5511999990000", "hello", "run", number)


def until(done: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not done():
        assert time.monotonic() < give_up_at, "it did not come to it"
        time.sleep(0.01)


def test_no_more_shipments_are_under_way_than_slots_however_they_come(held: Held, worker: Worker) -> None:
    with ThreadPoolExecutor(8) as tasks:
        ended = [tasks.submit(worker.push, message(number), None) for number in range(5)]
        ended += [
            tasks.submit(worker.push_several, [message(first + n) for n in range(5)], None)  # type: ignore[arg-type]
            for first in (10, 20)
        ]
        until(lambda: held.now == SLOTS)
        held.may_answer.set()
        wait(ended, timeout=20)
        assert [task.result() for task in ended] == [None] * 5 + [[], []]
    assert (held.all, held.most) == (15, SLOTS)


def test_what_waits_for_a_slot_when_the_worker_is_told_to_stop_goes_back_unbegun(
    held: Held, worker: Worker
) -> None:
    with ThreadPoolExecutor(6) as tasks:
        ended = [tasks.submit(worker.push, message(number), None) for number in range(6)]
        until(lambda: held.now == SLOTS)
        worker._give_back()
        held.may_answer.set()
        wait(ended, timeout=20)
        left = [task for task in ended if isinstance(task.exception(), Reject)]
        assert len(left) == 6 - SLOTS
        assert all(task.exception().requeue for task in left)  # type: ignore[union-attr]
    assert held.all == SLOTS


@pytest.mark.parametrize("end", [SystemExit, GreenletExit])
def test_a_shipment_that_is_told_to_end_goes_back_and_does_not_count_as_shipped(
    held: Held, worker: Worker, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    def push(shipment: Message, *_: object) -> None:
        if shipment.number == 1:
            raise end

    monkeypatch.setattr(worker._pusher, "push", push)
    assert worker.push_several([message(number) for number in range(3)], None) == [message(1)]
    with pytest.raises(Reject) as given_back:
        worker.push(message(1), None)
    assert given_back.value.requeue
