"""The queue with its subscribers alone: a drain in the place of workers, and a run of scope `queue`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from queuebench.bench.stack import Stack
from queuebench.experiment.drain import ids_of
from queuebench.figures.records import Scope, Verdict, read_summary
from queuebench.measuring.records import Stage, encode
from queuebench.pipeline.hand_over import Envelope
from queuebench.report import cli, words
from tests.records import process, shipped, summary_of, totals


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    from queuebench.pipeline import app

    return app


def test_the_ids_of_one_and_of_several_shipments_are_read(tasks: Any) -> None:
    one = Envelope(tasks.push_data, ("phone", "text"))
    assert ids_of(one.stamp("run-7", ("+55", "hi"), {"run": "run", "number": 7})) == ["run-7"]
    several = Envelope(tasks.push_several, ([],))
    messages = [("run-1", "+55", "hi", "run", 1, None), ("own-id", "+55", "hi", None, None, None)]
    assert ids_of(several.stamp("task", (messages,), {})) == ["run-1", "own-id"]


@pytest.mark.parametrize("envelope", [b"", b"{", b"[]", b"{}", orjson.dumps({"headers": None})])
def test_what_is_no_task_is_nobody_s(envelope: bytes) -> None:
    assert ids_of(envelope) == []


def drained() -> dict[str, Any]:
    made = shipped(2000)
    kept = {
        name: each for name, each in made["processes"].items() if each["role"] not in ("worker", "endpoint")
    }
    kept["d"] = process("drain", cpu=0.1, totals=totals({"arrived": 2000}, active={"answer": [(0, 3)]}))
    return {**made, "processes": kept, "run_id": "drained"}


def test_a_run_with_a_drain_has_a_scope_of_its_own_and_neither_post_nor_end_to_end() -> None:
    run = summary_of(drained())
    assert (run.scope, run.verdict) == (Scope.QUEUE, Verdict.VALID)
    assert run.latency(Stage.POST).count == run.latency(Stage.END_TO_END).count == 0
    assert run.cost.workers_usd_per_month is None and run.how_many is None
    assert "drained; no POST was made" in words.verdict(run)


def test_it_is_never_compared_with_a_whole_run(tmp_path: Path) -> None:
    for run in (summary_of(drained()), summary_of(shipped(2000))):
        (tmp_path / run.run_id).mkdir()
        (tmp_path / run.run_id / "summary.json").write_bytes(encode(words.written(run)))
    names = [path.name for path in tmp_path.iterdir()]
    with pytest.raises(cli.ReportError, match="not compared with whole runs"):
        cli.main([*names, "--results", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
def test_a_drain_keeps_what_was_accepted_as_a_set(queue: str, tmp_path: Path) -> None:
    settings = {"SHIPMENTS_PER_TASK": "3"} if queue == "REDIS" else {}
    with Stack(
        tmp_path, queue, workers=0, settings=settings, sqs_options=["--latency", "0", "--no-quotas"]
    ) as stack:
        publisher = stack.publish("2000", "--wait")
        assert publisher.wait(timeout=120) == 0
        (path,) = stack.results.glob("*/summary.json")
        run = read_summary(path.read_bytes(), "the run")
    counts = run.counts
    assert (counts.published, counts.received, counts.handed_over, counts.delivered) == (2000,) * 4
    assert (run.scope, counts.lost, counts.duplicated) == (Scope.QUEUE, 0, 0)
