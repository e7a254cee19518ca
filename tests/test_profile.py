"""PROFILE, in a line and in files as people have them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from queuebench.errors import SettingsError
from queuebench.load import profile
from queuebench.load.curve import Stretch
from queuebench.load.pacing import of_settings
from queuebench.report import words
from queuebench.settings import load


@pytest.mark.parametrize(
    ("text", "stretches"),
    [
        ("100 for 60", [(60, 100, 100)]),
        ("100 for 60, 100..500 over 30, 2000 for 5", [(60, 100, 100), (30, 100, 500), (5, 2000, 2000)]),
        ("0.5/s for 10 s; 5..0 over 2.5s", [(10, 0.5, 0.5), (2.5, 5, 0)]),
        (" 1 FOR 2 ,", [(2, 1, 1)]),
        ("0 for 5, 10 .. 20/s over 1", [(5, 0, 0), (1, 10, 20)]),
    ],
)
def test_steps_ramps_and_bursts_in_a_line(text: str, stretches: list[tuple[float, float, float]]) -> None:
    found = profile.read(text)
    assert found.curve.stretches == [Stretch(*stretch) for stretch in stretches]
    assert not found.counted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "neither 'RATE for SECONDS' nor"),
        ("100 for", "neither"),
        ("-5 for 10", "neither"),
        ("100 for 60, then 5", "'then 5' is neither"),
        ("100 for 0", "more than 0 s"),
        ("2000000 for 5", "highest rate is 1,000,000/s"),
        ("0 for 60", "not one message"),
        (",", "between one and"),
        ("no/such/file.csv", "no file of that name"),
        ("x" * 5000, "neither|cannot be read"),
        ("/", "neither"),
    ],
)
def test_what_is_no_profile_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        profile.read(text)
    assert "PROFILE=" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_may_hold_the_same_on_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "a day for a test.txt"
    path.write_bytes(b"\xef\xbb\xbf# the morning\r\n10 for 5\r\n\r\n10..50 over 5, 0 for 1\r\n")
    found = profile.read(str(path))
    assert [stretch.seconds for stretch in found.curve.stretches] == [5, 5, 1]
    assert not found.counted


CONSOLE = """\
Full label,"phone_numbers"
Label,NumberOfMessagesSent
Period,300
Statistic,Sum
2026/11/20 00:00:00,600
2026/11/20 00:05:00,"1,500"
2026/11/20 00:15:00,30.0
"""
COMMAND_LINE = """\
NumberOfMessagesSent
DATAPOINTS\t30.0\t2026-11-20T00:15:00+00:00\tCount
DATAPOINTS\t600.0\t2026-11-20T00:00:00+00:00\tCount
DATAPOINTS\t1500.0\t2026-11-20T00:05:00+00:00\tCount
"""
QUERIED = "2026-11-20T00:15:00Z\t30\n2026-11-20T00:00:00Z\t600\n2026-11-20T00:05:00Z\t1500\n"
COLUMNS = """\
Timestamp;SampleCount;Sum
2026-11-20 00:00;3;600
2026-11-20 00:05;9;1500
2026-11-20 00:15;1;30
"""
EPOCH = "time,value\n1795132800,600\n1795133100,1500\n1795133400,\n1795133700000,30\n"


@pytest.mark.parametrize("text", [CONSOLE, COMMAND_LINE, QUERIED, COLUMNS, EPOCH])
def test_counts_per_interval_as_cloudwatch_exports_them_become_rates(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sent.csv"
    path.write_text(text)
    found = profile.read(str(path))
    assert found.counted
    assert found.curve.messages == pytest.approx(2130)
    assert found.curve.seconds == pytest.approx(1200)
    # In the ten minutes' third interval nothing was sent.
    assert [stretch.first for stretch in found.curve.stretches] == pytest.approx([2, 5, 0, 0.1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no line with a time and a count"),
        ("Label,x\n", "no line with a time and a count"),
        ("2026-11-20T00:00:00Z,5\n", "one line"),
        ("2026-11-20T00:00:00Z,5\nsum,7\n", "line 2: there is no time"),
        ("2026-11-20T00:00:00Z,many\n", "line 1: 'many' is no count"),
        ("2026-11-20T00:00:00Z,-5\n", "line 1: '-5' is no count"),
        ("2026-11-20T00:00:00Z,5,6\n", "2 columns of numbers"),
        ("Statistic,Average\n2026-11-20T00:00:00Z,5\n", "Sum is needed"),
        ("Period,300\n2026-11-20T00:00:00Z,5\n2026-11-20T00:01:00Z,5\n", "closer together"),
        ("2026-11-20T00:00:00Z,0\n2026-11-20T00:01:00Z,0\n", "not one message"),
    ],
)
def test_a_table_that_cannot_be_used_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sent.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        profile.read(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\x81\x00abc")
    with pytest.raises(SettingsError, match="PROFILE"):
        profile.read(str(tmp_path / "x.csv"))


def test_a_day_is_put_into_a_duration_with_its_rates(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    hours = [f"2026-11-20T{hour:02}:00:00Z,{3600 * (10 + hour)}" for hour in range(24)]
    path.write_text("\n".join(hours))
    whole = of_settings(load({"PROFILE": str(path)}))
    assert (whole.curve and whole.curve.seconds, whole.faster) == (86_400, 1.0)
    quick = of_settings(load({"PROFILE": str(path), "DURATION": "60"}))
    assert quick.curve is not None
    assert quick.curve.seconds == pytest.approx(60)
    assert (quick.faster, quick.expected) == (1440, 1290)
    assert max(stretch.first for stretch in quick.curve.stretches) == 33
    assert quick.rate == pytest.approx(whole.rate) == pytest.approx(21.5)
    assert "rates are as they were counted, so there are 1,440 times fewer" in words.squeezed(quick.faster)
    slow = of_settings(load({"PROFILE": str(path), "DURATION": "172800"}))
    assert slow.faster == 0.5
    assert "2 times as slowly" in words.squeezed(slow.faster)


def test_a_duration_cuts_what_was_written_by_hand_and_adds_nothing() -> None:
    cut = of_settings(load({"PROFILE": "10 for 10, 100 for 10", "DURATION": "11"}))
    assert (cut.expected, cut.faster) == (200, 1.0)
    short = of_settings(load({"PROFILE": "10 for 10", "DURATION": "60"}))
    assert (short.expected, short.ends, short.curve and short.curve.seconds) == (100, True, 10)
    assert of_settings(load({"RATE": "1"})).ends is False
    assert of_settings(load({})).seconds == math.inf


def test_a_warm_up_that_takes_all_of_it_is_refused() -> None:
    with pytest.raises(SettingsError, match="WARM_UP=10 takes all 10 s of PROFILE"):
        of_settings(load({"PROFILE": "10 for 10", "WARM_UP": "10"}))
