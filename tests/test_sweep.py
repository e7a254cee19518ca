"""A sweep: all combinations in a fair order, gone on with where it was, and one table of what came of it."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from queuebench.errors import QueueBenchError, SettingsError
from queuebench.experiment import sweep as sweeping
from queuebench.figures.records import read_summary
from queuebench.figures.sweeps import Cell, Definition, Sweep, combined
from queuebench.measuring.records import decode, encode
from queuebench.report import sweeps as shown
from queuebench.report import words
from tests import ROOT
from tests.records import shipped, summary_of


def definition_of(*argv: str) -> Definition:
    return sweeping._definition(sweeping._parser().parse_args(list(argv)))


def test_every_combination_is_run_once_in_each_repetition_in_another_order() -> None:
    definition = definition_of("--vary", "SUBSCRIBERS=1,2,4", "--vary", "QUEUE=REDIS,SQS", "--repeats", "3")
    cells = definition.cells()
    assert len(cells) == 18 and cells == definition.cells()
    blocks = [[tuple(cell.values.items()) for cell in cells[start : start + 6]] for start in (0, 6, 12)]
    assert all(len(set(block)) == 6 for block in blocks)
    assert len({tuple(block) for block in blocks}) == 3
    assert {cell.repeat for cell in cells[6:12]} == {1}


def test_variants_set_several_settings_at_once() -> None:
    definition = definition_of(
        "--variant",
        "fifo: QUEUE=SQS QUEUE_NAME=x.fifo",
        "--variant",
        "list: QUEUE=REDIS",
        "--vary",
        "WORKERS=1,2",
    )
    combinations = definition.combinations()
    assert [values["variant"] for values in combinations] == ["fifo", "fifo", "list", "list"]
    settings = definition.all_settings(combinations[1])
    assert settings["QUEUE_NAME"] == "x.fifo" and settings["WORKERS"] == "2" and "variant" not in settings


def test_a_file_says_the_same_as_the_options(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text(
        'repeats = 2\nmessages = 300\nsqs = "--latency 0"\n[settings]\nPUSH_SECONDS = 0.05\n'
        '[vary]\nQUEUE = ["REDIS", "SQS"]\nSUBSCRIBERS = [1, 2]\n[variants]\nfast = "SQS_THREADS=16"\n'
        "slow = { SQS_THREADS = 1 }\n"
    )
    assert definition_of(str(path)) == definition_of(
        *("--vary", "QUEUE=REDIS,SQS", "--vary", "SUBSCRIBERS=1,2", "--repeats", "2", "--messages", "300"),
        *("--sqs=--latency 0", "--set", "PUSH_SECONDS=0.05"),
        *("--variant", "fast: SQS_THREADS=16", "--variant", "slow: SQS_THREADS=1"),
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "something to vary"),
        (["--vary", "SUBSCRIBERS"], "NAME=A,B is needed"),
        (["--vary", "SUBSCRIBERS=0,1"], "whole number from 1 to 100"),
        (["--vary", "QUEUE=REDIS,KAFKA"], "KAFKA"),
        (["--vary", "LOTS=1"], "with a name from .env.example"),
        (["--vary", "SQS_THREADS=1,many"], "SQS_THREADS"),
        (["--vary", "SQS_THREADS=1", "--variant", "fifo"], "'NAME: SETTING=VALUE …' is needed"),
        (["--vary", "SQS_THREADS=1", "--variant", "fifo: QUEUE_NAME"], "NAME=VALUE is needed"),
        (["--variant", "two: WORKERS=none"], "whole numbers from 1 to 100"),
        (["--vary", "SQS_THREADS=1", "--messages", "-5"], "-5"),
        (["--vary", f"SQS_THREADS={','.join('1' for _ in range(200))}", "--repeats", "100"], "too many"),
        (["none.toml"], "cannot be read"),
    ],
)
def test_what_cannot_be_swept_is_one_clear_line(argv: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        definition_of(*argv)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[vary\n", "is not TOML"),
        (b"\xff\xfe\x00x", "is not TOML"),
        (b"varies = 1", "'varies' is unknown"),
        (b"vary = 3", "a table is needed"),
        (b"[vary]\nSUBSCRIBERS = [[1]]", "a text or a number is needed"),
        (b"repeats = 0\n[vary]\nSUBSCRIBERS = 1", "repeats=0"),
    ],
)
def test_a_file_that_is_wrong_is_one_clear_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_bytes(text)
    with pytest.raises(SettingsError) as caught:
        definition_of(str(path))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def swept() -> tuple[Sweep, dict[str, Any]]:
    definition = Definition({"SUBSCRIBERS": ["1", "2"]}, repeats=2)
    runs = {f"run-{number}": summary_of(shipped(2000, queue_wait=0.1 * (number + 1))) for number in range(2)}
    runs["run-2"] = summary_of(shipped(2000, ended="not finished", moved_at=0))
    cells = [
        Cell({"SUBSCRIBERS": "1"}, 0, "run-0"),
        Cell({"SUBSCRIBERS": "1"}, 1, "run-1"),
        Cell({"SUBSCRIBERS": "2"}, 0, "run-2"),
        Cell({"SUBSCRIBERS": "2"}, 1, None, "=subscriber-2 ended at its start"),
    ]
    return Sweep(definition, cells), runs


def test_one_table_has_the_medians_and_says_what_does_not_count(capsys: Any) -> None:
    sweep, runs = swept()
    assert shown.show(combined(sweep, runs)) == 1
    out = capsys.readouterr().out
    assert "2 valid" in out and "1 NOT VALID, 1 failed" in out
    assert "150 ms ±33%" in out
    assert "failed: SUBSCRIBERS=2: =subscriber-2 ended at its start" in out


def test_the_csv_has_a_row_a_run_and_no_formula() -> None:
    sweep, runs = swept()
    read = list(csv.DictReader(io.StringIO(shown.table_csv(sweep, runs))))
    assert [row["verdict"] for row in read] == ["valid", "valid", "invalid", ""]
    assert float(read[1]["queue_wait.p99"]) == pytest.approx(200, rel=0.01)
    assert read[3]["failure"] == "'=subscriber-2 ended at its start"
    assert read[0]["machine.cpu_share"] == ""  # not known, and not 0


def test_the_report_has_curves_and_over_two_settings_heat_maps() -> None:
    definition = Definition({"QUEUE": ["REDIS", "SQS"], "SUBSCRIBERS": ["1", "2"], "SQS_QUEUES": ["1", "4"]})
    runs = {f"run-{number}": summary_of(shipped(2000)) for number in range(8)}
    cells = [Cell(cell.values, 0, f"run-{number}") for number, cell in enumerate(definition.cells())]
    cells[0] = Cell(cells[0].values, 0, None, "worker-1 ended: <b>boom</b>")
    page = shown.page("Sweep <one>", combined(Sweep(definition, cells), runs))
    assert page.count('"kind":"heat map"') == 2 * page.count('"kind":"curves"') > 0
    assert "<b>boom" not in page and "Sweep &lt;one&gt;" in page and "1 failed" in page
    one = Sweep(
        Definition({"QUEUE": ["REDIS", "SQS"]}), [Cell({"QUEUE": "REDIS"}, 0), Cell({"QUEUE": "SQS"}, 0)]
    )
    assert "not run yet" in shown.page("One", combined(one, {}))


def test_a_sweep_of_another_definition_is_not_gone_on_with(tmp_path: Path) -> None:
    one, other = definition_of("--vary", "SQS_THREADS=1"), definition_of("--vary", "SQS_THREADS=2")
    sweep = sweeping._resume(tmp_path, one)
    assert sweep == sweeping._resume(tmp_path, one)
    with pytest.raises(QueueBenchError, match="of another sweep"):
        sweeping._resume(tmp_path, other)
    (tmp_path / "sweep.json").write_bytes(b"{")
    with pytest.raises(QueueBenchError, match="cannot be used"):
        sweeping._resume(tmp_path, one)


@pytest.mark.slow
def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "queuebench", "sweep", "--vary", "QUEUE=REDIS,SQS", "--messages", "100"]
    command += [
        "--set",
        "PUSH_SECONDS=0.01",
        "--set",
        "WORKER_SLOTS=20",
        "--sqs=--latency 0",
        "--name",
        "one",
    ]
    command += ["--results", str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    path = tmp_path / "results" / "sweeps" / "one" / "sweep.json"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as first:
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at:
            if path.is_file() and any(cell.done for cell in decode(path.read_bytes(), Sweep, "it").cells):
                break
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        out = first.communicate(timeout=300)[0]
    assert first.returncode == 130 and "the same command goes on with it" in out
    kept = decode(path.read_bytes(), Sweep, "the sweep")
    assert [cell.done for cell in kept.cells] == [True, False]
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 runs, 1 to be made" in again.stdout
    done = decode(path.read_bytes(), Sweep, "the sweep")
    assert done.cells[0] == kept.cells[0] and done.cells[1].run_id
    runs = [
        read_summary((tmp_path / "results" / (cell.run_id or "") / "summary.json").read_bytes(), "a run")
        for cell in done.cells
    ]
    assert Counter(run.queue for run in runs) == Counter(["REDIS", "SQS"])
    assert words.VERDICTS[runs[0].verdict] == "valid" and encode(done)
    assert not list(tmp_path.glob(".bench-*"))
