"""Thresholds: what is required of a run's figures, and whether runs became worse than a baseline."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from queuebench.errors import SettingsError
from queuebench.figures import regression, requirement
from queuebench.figures.records import Summary
from queuebench.measuring.records import encode
from queuebench.pipeline import publisher
from queuebench.report import cli, terminal, words
from tests.records import process, record, summary_of, totals


def run(wait: float = 0.2, *, lost: int = 0, run_id: str = "20261123-150000-redis-0001") -> Summary:
    worker = process(
        "worker", cpu=0.5, totals=totals({"pushed": 100}, {"queue_wait": [wait] * 100}, {"push": [(0, 10)]})
    )
    sent = process(
        "publisher", totals=totals({"published": 100}, active={"publish": [(0, 1)]}, accepted=[(0, 99)])
    )
    made = record([worker, sent], messages=100, arrived=[(0, 99 - lost)], run_id=run_id)
    made["tally"]["missing"] = [[100 - lost, 99]] if lost else []
    return summary_of(made)


@pytest.mark.parametrize(
    ("text", "met", "found"),
    [
        ("queue_wait.p99 < 1 s", True, "200 ms"),
        ("queue_wait.p99<150ms", False, "200 ms"),
        ("latency_ms.queue_wait.p50 <= 0.01 min", True, "200 ms"),
        ("lost = 0", True, "0"),
        ("lost == 0", True, "0"),
        ("counts.lost > 0", False, "0"),
        ("rates.push >= 9.5/s", True, "10/s"),
        ("rates.push >= 1_000", False, "10/s"),
        ("seconds.total < 1 h", True, ""),
        ("end_to_end.p99 < 1 h", False, "the run does not tell"),  # nothing was timed
        ("end_to_end.count = 0", True, "0"),
        ("machine.cpu_share < 90 %", False, "the run does not tell"),
        ("resources.worker.cpu_us_per_message < 6 ms", True, "5 ms"),
        ("valid = 1", True, "1"),
        ("messages != 99", True, "100"),
    ],
)
def test_a_requirement_is_met_or_not_with_what_was_found(text: str, met: bool, found: str) -> None:
    outcome = requirement.check([requirement.parse(text)], run())[0]
    assert outcome.met is met
    said = words.outcome(outcome)
    assert said.startswith("met" if met else "NOT MET") and found in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is needed"),
        ("lost", "is needed"),
        ("lost < many", "is needed"),
        ("lots = 0", "or lost"),
        ("queue_wait.p98 < 1 s", "queue_wait.p9"),
        ("queue_wait.p99 < 1", "needs a unit of these: us, µs, ms, s"),
        ("lost = 5 s", "needs a unit of these: none"),
        ("counts < 1", "is no figure"),
        ("label = 1", "is no figure"),
        ("queue_wait.p99 < 1e999 s", "too large"),
        ("a.b.c.d = 1", "is no figure"),
    ],
)
def test_what_is_no_requirement_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        requirement.parse(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_every_figure_of_a_run_can_be_required() -> None:
    tree = msgspec.to_builtins(run(), str_keys=True)
    for name in requirement.figures():
        unit = requirement.unit_of(requirement.parse(f"{name} > 0").path) if _plain(name) else "s"
        assert requirement.parse(f"{name} > 0 {'s' if unit in ('ms', 's', 'us') else ''}").path
    assert requirement.figure(tree, ("latency_ms", "queue_wait", "p99")) == pytest.approx(200, rel=0.01)


def _plain(name: str) -> bool:
    try:
        requirement.parse(f"{name} > 0")
    except SettingsError:
        return False
    return True


def test_the_terminal_shows_each_requirement_and_the_exit_code_says_it() -> None:
    out = io.StringIO()
    wanted = [requirement.parse(text) for text in ("lost = 0", "queue_wait.p99 < 100 ms")]
    assert terminal.show([run()], requirements=wanted, file=out) == 1
    assert "met  lost = 0  (0)" in out.getvalue()
    assert "NOT MET  queue_wait.p99 < 100 ms" in out.getvalue()
    assert terminal.show([run()], requirements=wanted[:1], file=io.StringIO()) == 0


def test_figures_are_worse_beyond_their_spread_or_not() -> None:
    base, slower = [run(0.2), run(0.3)], [run(0.29), run(0.4)]
    assert regression.worse(base, [run(0.31)], 0.1)[0].path == ("latency_ms", "queue_wait", "p50")
    assert regression.worse(base, slower, 0.1) == []  # 0.29 lies within what the baseline had
    assert regression.worse([run(0.2)], [run(0.21)], 0.1) == []
    assert regression.worse([run()], [run(lost=5)], 0.1)[0].path == ("counts", "lost")
    assert regression.worse([run(0.3)], [run(0.2)], 0.0) == []  # better


def written(folder: Path, found: Summary) -> Path:
    (folder / found.run_id).mkdir()
    (folder / found.run_id / "summary.json").write_bytes(encode(words.written(found)))
    return folder / found.run_id


def test_the_report_fails_where_a_run_is_worse_than_its_baseline(tmp_path: Path, capsys: Any) -> None:
    for number, wait in enumerate((0.2, 0.22, 0.4)):
        written(tmp_path, run(wait, run_id=f"run-{number}"))
    asked = ["--results", str(tmp_path)]
    assert cli.main(["run-0", "run-1", "--worse", "20", "%", *asked]) == 0
    assert "no figure is more than 20% worse" in capsys.readouterr().out
    assert cli.main(["run-0,run-1", "run-2", "--worse", "10%", *asked]) == 1
    assert "worse: queue_wait.p50 210 ms → " in capsys.readouterr().out
    assert cli.main(["run-0", *asked, "--require", "queue_wait.p99 < 1 s", "lost = 0"]) == 0
    assert cli.main(["run-0", "--require", "lost > 0", *asked]) == 1


def test_a_publisher_takes_requirements_only_where_it_follows_the_run() -> None:
    with pytest.raises(SettingsError, match="--require needs --wait"):
        publisher.main(["10", "--require", "lost = 0"])
    with pytest.raises(SettingsError, match="is no figure"):
        publisher.main(["10", "--wait", "--require", "losses = 0"])
