"""Whatever stands where the monitor's files belong, it says so once, and judges the run all the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from queuebench.measuring import series
from queuebench.measuring.records import FORMAT, JoinRequest, LeaveRequest
from queuebench.monitor import monitor, state
from queuebench.monitor.history import MOST_UNWRITTEN
from queuebench.monitor.monitor import Monitor
from queuebench.plumbing import files
from queuebench.settings import load
from tests.test_run import SETTINGS


@pytest.fixture
def opened(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Monitor]:
    """Start a monitor of the test's results as often as wanted; it waits for no last reports."""
    monkeypatch.setattr(state, "LAST_REPORTS_SECONDS", 0.0)
    monkeypatch.setattr(monitor, "WATCH_EVERY_SECONDS", 0.0)
    settings = load({"REDIS_PUBSUB_URL": redis_url, "REDIS_CELERY_URL": redis_url})
    return lambda: Monitor(settings, tmp_path)


def join(front: Monitor, messages: int = 0) -> str:
    return front.join(JoinRequest(FORMAT, "p", 0, messages, SETTINGS)).run_id


def end(front: Monitor, run: str) -> dict[str, Any]:
    front.leave(run, LeaveRequest(FORMAT, "p", 0, []))
    for _ in range(10):
        front.tick()
        found = front.progress(run)
        assert found is not None
        if found["summary"]:
            return dict(found["summary"])
    raise AssertionError("it does not end")


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def full(path: Path) -> None:
    """Let writing fail as it does on a full disk."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


KINDS = [folder, pipe, full]


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("name", ["series.jsonl", "run.tmp", "summary.tmp", "summary.json", "report.tmp"])
def test_a_file_that_cannot_be_written_keeps_no_run_from_its_end(
    opened: Callable[[], Monitor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    how: Callable[[Path], None],
) -> None:
    front = opened()
    run = join(front)
    how(tmp_path / run / name)
    for _ in range(3):
        front.tick()
    assert end(front, run)["ended"] == "complete"
    said = [line for line in capsys.readouterr().err.splitlines() if run in line]
    assert len(said) <= 1
    if name != "summary.json" or how is folder:
        assert len(said) == 1 and name.partition(".")[0] in said[0]
    front.page([run])
    front.page([])
    front.report_html([run])
    front.metrics()
    following = join(front)
    assert following != run and end(front, following)["ended"] == "complete"
    assert following in [found["run_id"] for found in front.page([])["history"]]


@pytest.mark.parametrize("name", ["run.json", "series.jsonl", "summary.json"])
@pytest.mark.parametrize("how", KINDS)
def test_a_file_that_cannot_be_read_stops_no_monitor_that_starts(
    opened: Callable[[], Monitor], tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    front = opened()
    done, left = join(front), ""
    end(front, done)
    left = join(front)
    for run in (done, left):
        how(tmp_path / run / name)
    again = opened()
    again.tick()
    again.page([done, left])
    again.report_html([done, left])
    if name == "run.json":
        assert again.state.open_run() is None and (tmp_path / left / "set-aside.txt").exists()
    else:
        assert again.state.open_run() == left and end(again, left)["ended"] == "complete"
    assert end(again, join(again))["ended"] == "complete"


def test_a_folder_of_results_that_is_a_file_or_gone_stops_no_run(
    opened: Callable[[], Monitor], tmp_path: Path
) -> None:
    front = opened()
    run = join(front)
    for path in (tmp_path / run).iterdir():
        path.unlink()
    (tmp_path / run).rmdir()
    (tmp_path / run).write_text("in the way")
    assert end(front, run)["ended"] == "complete"
    (tmp_path / run).unlink()
    tmp_path.rmdir()
    front.page([])
    assert end(front, join(front))["ended"] == "complete"


def test_what_the_disk_did_not_take_is_shown_from_memory_and_written_once_it_does(
    opened: Callable[[], Monitor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front = opened()
    runs = []
    for _ in range(MOST_UNWRITTEN + 2):
        runs.append(join(front))
        folder(tmp_path / runs[-1] / "summary.json")
        end(front, runs[-1])
    shown = front.page([])
    assert [found["run_id"] for found in shown["history"]] == sorted(runs[2:], reverse=True)
    (tmp_path / runs[-1] / "summary.json").rmdir()
    capsys.readouterr()
    front.tick()
    assert orjson.loads((tmp_path / runs[-1] / "summary.json").read_bytes())["run_id"] == runs[-1]
    assert capsys.readouterr().err.count("is written again") == 1
    assert front.progress(runs[-1])["summary"]["ended"] == "complete"  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda data: b"\xef\xbb\xbf" + data, True),
        (lambda data: data.decode().encode("utf-16"), True),
        (lambda data: data[: len(data) // 2], False),
        (lambda data: b"", False),
        (lambda data: bytes(range(256)) * 1000, False),
        (lambda data: b"[" * 10**6, False),
        (lambda data: data + b" " * 70_000_000, False),
    ],
    ids=["mark", "utf-16", "cut", "empty", "binary", "deep", "huge"],
)
def test_a_summary_as_an_editor_or_a_crash_left_it_is_read_or_said_once(
    opened: Callable[[], Monitor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[bytes], bytes],
    shown: bool,
) -> None:
    front = opened()
    run = join(front)
    end(front, run)
    path = tmp_path / run / "summary.json"
    path.write_bytes(change(path.read_bytes()))
    again = opened()
    for _ in range(3):
        assert [found["run_id"] for found in again.page([])["history"]] == ([run] if shown else [])
    assert (again.progress(run) is not None) is shown
    assert capsys.readouterr().err.count(f"{run}/summary.json") == (0 if shown else 1)
    assert end(again, join(again))["ended"] == "complete"


def test_a_series_of_any_bytes_costs_no_memory_and_hides_nothing_else(
    opened: Callable[[], Monitor], tmp_path: Path
) -> None:
    front = opened()
    run = join(front)
    front.tick()
    end(front, run)
    path = tmp_path / run / "series.jsonl"
    count = len(path.read_bytes().splitlines())
    with path.open("ab") as lines:
        lines.write(b"x" * 20_000_000)
    assert len(series.read(path).points()) == count
    assert front.page([run])["shown"] == [run]


def test_as_many_messages_as_a_run_takes_cost_no_more_than_one(opened: Callable[[], Monitor]) -> None:
    front = opened()
    run = join(front, 10**15)
    front.leave(run, LeaveRequest(FORMAT, "p", 0, [(0, 10**15 - 1)]))
    front.tick()
    found = front.progress(run)
    assert found is not None and found["accepted"] == found["messages"] == 10**15
    front.page([run])
    front.metrics()


def test_a_file_that_is_too_large_or_none_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"12345")
    assert files.read(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4"):
        files.read(path, 4)
    for how in KINDS:
        how(path)
        with pytest.raises(OSError, match=r"regular|directory"):
            files.read(path, 5)
        path.rmdir() if path.is_dir() else path.unlink()
