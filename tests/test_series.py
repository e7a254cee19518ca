from pathlib import Path
from typing import Any

import pytest

from queuebench.measuring import series
from queuebench.measuring.records import encode
from queuebench.measuring.series import Held, Point, Series


def point(at: float, **more: Any) -> Point:
    return Point(at, **{"queue": Held(), **more})


@pytest.mark.parametrize("count", [0, 1, 10, 11, 12, 500, 100_000])
def test_however_long_a_run_is_its_series_stays_small_and_ends_with_the_newest_point(count: int) -> None:
    kept = Series(most=10)
    for number in range(count):
        kept.add(Point(number))
    points = kept.points()
    assert len(points) <= 11
    ats = [found.at for found in points]
    assert ats == sorted(set(ats))
    if count:
        assert (ats[0], ats[-1]) == (0, count - 1)


def test_rates_are_growth_per_second_even_where_points_are_not_a_second_apart() -> None:
    points = [point(101.0, delivered=100), point(102.0, delivered=300), point(104.0, delivered=700)]
    columns = series.columns(points, 100.0)
    assert columns["t"] == [0.0, 1.0, 2.0, 4.0]
    assert columns["rates"]["delivered"] == [100.0, 150.0, 200.0, 200.0]


def test_a_count_that_falls_when_a_process_dies_is_no_negative_rate() -> None:
    assert series.slopes([0.0, 1.0, 2.0], [0.0, 50.0, 20.0], 1) == [50.0, 10.0, 0.0]


def test_a_depth_that_nobody_could_tell_stays_unknown() -> None:
    waiting = Held(waiting=5, in_flight=2)
    columns = series.columns([point(1.0, queue=waiting)], 0.0)
    assert columns["depths"] == {"queue": [0, 7], "celery": [0, None], "dead_letters": [0, 0]}


def test_a_run_without_a_single_point_has_empty_columns() -> None:
    columns = series.columns([], 0.0)
    assert columns["t"] == []
    assert columns["rates"]["published"] == []


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.write_bytes(encode(point(1.0)) + b"\n" + b'{"at": 2.')
    assert [found.at for found in series.read(path).points()] == [1.0]
    assert series.read(tmp_path / "none.jsonl").points() == []
