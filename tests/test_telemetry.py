from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from queuebench.measuring.records import MOST_INTERVALS, MOST_RANGES
from queuebench.measuring.telemetry import IDLE_GAP_SECONDS, Telemetry, extend_active

times = st.integers(0, 400).map(lambda halves: halves / 2.0)
spells = st.lists(st.tuples(times, st.integers(0, 6)), min_size=1, max_size=60).map(
    lambda found: [(start, start + length / 2.0) for start, length in found]
)


@given(spells)
def test_in_whatever_order_spells_end_the_active_time_is_theirs(found: list[tuple[float, float]]) -> None:
    intervals: list[list[float]] = []
    for start, end in found:
        extend_active(intervals, start, end)
    expected: list[list[float]] = []
    for start, end in sorted(found):
        if expected and start - expected[-1][1] <= IDLE_GAP_SECONDS:
            expected[-1][1] = max(expected[-1][1], end)
        else:
            expected.append([start, end])
    assert intervals == expected


def test_a_stage_that_comes_and_goes_all_day_keeps_its_longest_pauses() -> None:
    intervals: list[list[float]] = []
    for minute in range(1440):
        at = 60.0 * minute + (1800.0 if minute >= 720 else 0.0)
        extend_active(intervals, at, at + 1.0)
    assert len(intervals) == MOST_INTERVALS
    assert (intervals[0][0], intervals[-1][1]) == (0.0, 60.0 * 1439 + 1801.0)
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(intervals)]
    assert max(pauses) == 1859.0


def test_a_report_has_no_more_gaps_than_the_monitor_takes() -> None:
    telemetry = Telemetry("publisher")
    for number in range(MOST_RANGES + 5):
        telemetry.accepted("run", 2 * number, 2 * number)
    assert len(telemetry.accepted_so_far("run")) == MOST_RANGES
    assert len(telemetry._runs["run"].frozen().accepted) == MOST_RANGES
