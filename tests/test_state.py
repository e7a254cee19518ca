"""What the monitor knows in memory: clocks that are set, a process that is held, who asks while it judges."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from queuebench.measuring.records import FORMAT, DeadLettered, Ending, JoinRequest, LeaveRequest, Tally
from queuebench.measuring.run import GONE_SECONDS
from queuebench.measuring.series import Held, Series
from queuebench.monitor import state as state_module
from queuebench.monitor.probing import Sample
from queuebench.monitor.state import Opening, State
from tests.test_run import SETTINGS, opened, report

EMPTY = Held(0, 0)


class Clock:
    """`time` as the state sees it: a clock on the wall that can be set, and a steady one."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 50.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def go_on(self, seconds: float) -> None:
        self.wall, self.steady = self.wall + seconds, self.steady + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(state_module, "time", clock)
    return clock


def sample(queue: Held = EMPTY, tally: Tally | None = None) -> Sample:
    return Sample(queue, EMPTY, {}, {}, DeadLettered(), tally or Tally(proven=True))


def joined(messages: int = 10) -> State:
    state = State([])
    state.open(Opening("run", SETTINGS, {}, "REDIS", "Redis"), sample())
    assert state.join(JoinRequest(FORMAT, "p", 0, messages, SETTINGS))
    return state


def look(state: State, **what: Any) -> Ending | None:
    found = sample(**what)
    verdict = state.judge("run", found, found.tally)
    assert verdict is not None
    return verdict.record.ended


@pytest.mark.parametrize("by", [3600.0, 40 * 365 * 86_400.0, -3600.0, -40 * 365 * 86_400.0])
def test_a_clock_that_is_set_ends_no_run_and_keeps_none_from_its_end(clock: Clock, by: float) -> None:
    state = joined()
    waiting = Held(10, 0)
    assert look(state, queue=waiting) is None
    clock.wall += by
    state.report(report("p", "publisher", clock.wall))
    for _ in range(20):
        clock.go_on(1)
        assert look(state, queue=waiting) is None
    state.leave("run", LeaveRequest(FORMAT, "p", 0, [(0, 9)]))
    tally = Tally(proven=True, distinct=10, arrived=[(0, 9)])
    look(state, tally=tally)
    clock.go_on(2)
    assert look(state, tally=tally) is Ending.COMPLETE
    record, _ = state.current() or pytest.fail("it is let go of by `finish` alone")
    assert record.clock_set_seconds == pytest.approx(abs(by), rel=0.01)


def test_a_clock_that_is_slewed_is_no_clock_that_is_set(clock: Clock) -> None:
    state = joined()
    for _ in range(100):
        clock.go_on(1)
        clock.wall += 0.5
        look(state, queue=Held(1, 0))
    record, _ = state.current() or pytest.fail("the run is open")
    assert record.clock_set_seconds == 0.0


def test_a_monitor_that_was_held_counts_no_time_in_which_it_heard_nobody(clock: Clock) -> None:
    state = joined(0)
    look(state)
    clock.go_on(GONE_SECONDS * 60)
    state.was_held(GONE_SECONDS * 60)
    for _ in range(4):
        assert look(state) is None
        clock.go_on(1)
    record, _ = state.current() or pytest.fail("the run is open")
    assert record.clock_set_seconds == 0.0


def test_a_run_that_is_gone_on_with_waits_from_the_restart_on(clock: Clock) -> None:
    run = opened()
    run.change(started_at=clock.wall, moved_at=clock.wall, ending_since=clock.wall, empty_since=clock.wall)
    clock.wall -= 86_400  # set back while no monitor ran
    state = State([run.record])
    state.resume("run", Series())
    look(state)
    clock.go_on(2)
    assert look(state) is Ending.COMPLETE


def test_a_health_check_does_not_wait_for_a_run_that_is_judged() -> None:
    state = State([])
    state.report(report("w", "worker", 1000.0))
    found: list[bool] = []
    asked: Callable[[], None] = lambda: found.append(state.hears_from("host"))  # noqa: E731
    with state._lock:
        asking = threading.Thread(target=asked, daemon=True)
        asking.start()
        asking.join(30)
    assert found == [True]
