"""What figures may say: only what was measured, in numbers and codes; and what is read again is checked."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from queuebench.bench.stack import clean_environment
from queuebench.figures import comparison
from queuebench.figures.findings import Place
from queuebench.figures.records import Limit, Summary, Verdict, read_summary, to_summary
from queuebench.measuring.records import FORMAT, FormatError, Role, Stage, encode
from queuebench.measuring.series import Point
from queuebench.pipeline.subscriber import fetch_began_at
from queuebench.queues import Batch
from queuebench.report import words
from queuebench.report.page import MOST_POINTS, html, page_data
from queuebench.report.table import rows
from queuebench.report.terminal import show
from tests import ROOT
from tests.records import START, shipped, summary_of, totals, written

FIFO = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1", "QUEUE_NAME": "phones.fifo"}


def process_of(run: dict[str, Any], role: str) -> Any:
    return next(each for each in run["processes"].values() if each["role"] == role)


def with_tally(proven: bool | None, **more: Any) -> Summary:
    nothing = {"distinct": 0, "duplicates": 0, "arrived": [], "missing": []}
    return summary_of(shipped(2000, tally={"proven": proven, **nothing}, **more))


# ---- delivery is said only where the tally said so ----


def test_an_endpoint_that_never_told_what_arrived_makes_a_run_not_valid() -> None:
    run = with_tally(None)
    assert (run.verdict, run.valid, run.proven) == (Verdict.INVALID, False, None)
    assert comparison.exit_code([run]) == 1
    assert words.verdict(run) == "NOT VALID: what arrived is not known: the endpoint did not answer /tally"
    assert "everything" not in words.verdict(run)


def test_while_a_run_goes_on_nothing_is_said_of_what_the_endpoint_has_not_told_yet() -> None:
    run = with_tally(None, ended=None, ended_at=None)
    assert (run.verdict, run.flaws, words.verdict(run)) == (Verdict.RUNNING, [], "still running")


def test_an_endpoint_that_is_not_ours_leaves_the_worker_s_word_and_that_is_said() -> None:
    run = with_tally(False)
    assert (run.verdict, run.valid, comparison.exit_code([run])) == (Verdict.VALID, True, 0)
    assert "not proven" in words.verdict(run)
    assert "worker's word" in words.verdict(run)
    assert any("not proven" in words.remark(found) for found in run.remarks)


def test_only_a_tally_makes_everything_delivered() -> None:
    assert words.verdict(with_tally(True)).startswith("valid: everything that was published was delivered")


def test_what_a_dead_publisher_may_have_sent_is_no_duplicate_where_nothing_proves_arrival() -> None:
    run = shipped(100, tally={"proven": False})
    (publisher,) = run["publishers"].values()
    publisher |= {"messages": 110, "left": False}
    process_of(run, "worker")["totals"]["counts"]["pushed"] = 112
    counts = summary_of(run).counts
    assert (counts.unconfirmed, counts.duplicated, counts.lost) == (10, 2, 0)


def test_a_run_that_was_set_aside_is_not_valid() -> None:
    run = summary_of(shipped(2000, ended="set aside"))
    assert run.verdict is Verdict.INVALID
    assert "set aside" in words.verdict(run)


def test_a_run_that_stood_still_says_for_how_long() -> None:
    run = summary_of(shipped(2000, ended="not finished", moved_at=START - 840))
    assert "nothing moved for 15 minutes" in words.verdict(run)


def test_times_that_were_left_out_of_the_latencies_are_said_with_their_number() -> None:
    run = shipped(2000)
    process_of(run, "subscriber")["totals"]["counts"]["implausible"] = 7
    (found,) = summary_of(run).remarks
    assert words.remark(found) == "7 times that no message can have were left out of the latencies"


# ---- the bottleneck, by numbers ----


def held_back(lanes: int, paused_seconds: float) -> Summary:
    run = shipped(10_000, queue_wait=25.0, celery_wait=10.0, subscriber={"slots": lanes})
    process_of(run, "subscriber")["latest"]["unassigned"] = {"held_back_ms": int(paused_seconds * 1000)}
    return summary_of(run)


def test_many_lanes_that_paused_a_little_each_leave_the_subscriber_to_blame() -> None:
    # The drain takes 50 s. 16 lanes that paused 1.3 % each: 10.4 s in all, a fifth of the wall clock.
    run = held_back(16, 16 * 50 * 0.013)
    assert run.held_back_share == pytest.approx(0.013)
    assert run.bottleneck.place is Place.SUBSCRIBER


def test_many_lanes_that_paused_for_long_are_held_back_by_what_comes_after() -> None:
    assert held_back(16, 16 * 50 * 0.5).bottleneck.place is Place.WORKER


def test_one_lane_is_judged_as_before() -> None:
    assert held_back(0, 30.0).bottleneck.place is Place.WORKER
    assert held_back(1, 0.6).bottleneck.place is Place.SUBSCRIBER


def throttled_on_a_full_machine(**more: Any) -> dict[str, Any]:
    calls = {"ReceiveMessage": 3_300, "DeleteMessageBatch": 1_000, "throttled": 2_000}
    busy = {"worker": {"seconds": 40.0, "cpu_seconds": 24.0, "machine_cpu_seconds": 79.9}}
    changes = {"slots": 1000, "queue_wait": 5.0, "celery_wait": 6.0} | more
    return shipped(10_000, settings=FIFO, busy=busy, subscriber={"requests": calls}, **changes)


def test_a_quota_that_binds_is_named_though_the_machine_is_full_and_the_worker_slow() -> None:
    run = throttled_on_a_full_machine()
    process_of(run, "worker")["totals"]["active"]["push"][0][1] += 5
    process_of(run, "endpoint")["totals"]["active"]["answer"][0][1] += 5
    found = summary_of(run).bottleneck
    assert (found.place, found.limit, found.fifo) == (Place.QUEUE, Limit.QUOTA, True)
    assert words.bottleneck(found, "local SQS").startswith("local SQS: FIFO quota")


def test_a_quota_that_was_over_long_before_the_end_is_not_named() -> None:
    run = throttled_on_a_full_machine(slots=200, queue_wait=1.0)
    found = summary_of(run).bottleneck
    assert (found.place, found.limit) == (Place.WORKER, Limit.SLOTS)


def test_numbers_stand_beside_the_words_of_a_bottleneck() -> None:
    found = written(shipped(10_000))["bottleneck"]
    assert (found["stage"], found["place"], found["limit"]) == ("worker", "worker", "slots")
    assert (found["slots"], found["per_second"]) == (200, 200.0)
    assert found["why"] == "200 slots ÷ 1.0 s = 200/s"


# ---- one POST, and a shipment with its repetitions ----


def test_pauses_between_tries_hold_no_slot() -> None:
    run = shipped(1000, slots=200)
    latencies = {"post": [1.0] * 1100, "push": [6.0] * 1000}
    process_of(run, "worker")["totals"]["latencies"] = totals({}, latencies)["latencies"]
    summary = summary_of(run)
    assert summary.latency(Stage.POST).p50 == pytest.approx(1000, rel=0.005)
    assert summary.latency(Stage.PUSH).p50 == pytest.approx(6000, rel=0.005)
    # 1,100 POSTs of a second for 1,000 shipments.
    assert summary.slot_seconds == pytest.approx(1.1)
    names = [row.name for row in rows(comparison.group([summary]))]
    assert "POST, p50" in names
    assert "push, with its repetitions, p50" in names


def test_where_only_shipments_were_timed_a_slot_is_held_for_one() -> None:
    assert summary_of(shipped(1000, push_seconds=2.0)).slot_seconds == pytest.approx(2.0)


def test_publish_lateness_is_a_figure_of_its_own() -> None:
    run = shipped(1000)
    publisher = process_of(run, "publisher")["totals"]
    publisher["latencies"] |= totals({}, {"publish_lateness": [0.5]})["latencies"]
    assert written(run)["latency_ms"]["publish_lateness"]["p50"] == pytest.approx(500, rel=0.005)


# ---- receiving begins with the first message, not before ----


@pytest.mark.parametrize(
    ("fetch_seconds", "called_at", "began_at"),
    [
        (0.004, 90.0, 99.996),  # the queue knows
        (0.004, None, 99.996),
        (None, None, 100.0),  # a lane that was waiting already
        (None, 99.95, 99.95),  # the next batch of a lane at work
        (None, 90.0, 100.0),  # one that waited for it
    ],
)
def test_the_wait_for_the_first_message_is_no_work(
    fetch_seconds: float | None, called_at: float | None, began_at: float
) -> None:
    batch = Batch([b"x"], [None], None, 0.0, fetch_seconds)
    assert fetch_began_at(batch, called_at, 100.0) == pytest.approx(began_at)


# ---- repeats ----


def named(run_id: str, **more: Any) -> Summary:
    return summary_of(shipped(**more) | {"run_id": run_id})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Redis, celery 5.6", {"versions": {"celery": "5.6"}}),
        ("Redis, local_sqs --latency 0", {"versions": {"celery": "5.7", "local_sqs": "--latency 0"}}),
        ("Redis, commit abc", {"versions": {"celery": "5.7", "commit": "abc"}}),
    ],
)
def test_other_versions_are_no_repeats(name: str, other: dict[str, Any]) -> None:
    groups = comparison.group([named("a", versions={"celery": "5.7"}), named("b", **other)])
    assert [len(group.runs) for group in groups] == [1, 1]
    assert words.group_name(groups[1]) == name


def test_another_machine_is_no_repeat() -> None:
    other = shipped()
    for each in other["processes"].values():
        each["cores"] = 16
    groups = comparison.group([named("a"), summary_of(other)])
    assert [words.group_name(group) for group in groups] == ["Redis, 2 cores", "Redis, 16 cores"]


def test_the_middle_of_repeats_is_that_of_the_numbers_that_there_are() -> None:
    busy = {"worker": {"seconds": 40.0, "cpu_seconds": 24.0, "machine_cpu_seconds": 40.0}}
    runs = [named("a"), named("b", busy=busy), named("c", worker_cpu=30.0)]
    (group,) = comparison.group(runs)
    assert runs[0].machine.cpu_share is None
    assert group.middle.machine.cpu_share == 0.5
    assert isinstance(group.middle.counts.published, int)
    assert group.middle.settings == runs[0].settings
    assert msgspec.convert(msgspec.to_builtins(group.middle), Summary) == group.middle


def test_shapes_and_curves_are_of_the_runs_that_the_table_counts() -> None:
    runs = [named("a"), named("b"), named("bad", push_seconds=9.0, ended="not finished")]
    data = page_data([(run, []) for run in runs])
    assert [run["counted"] for run in data["runs"]] == [True, True, False]
    assert sum(count for _, count in data["groups"][0]["distribution"][Stage.PUSH]) == 20_000


# ---- what is read again ----


def test_a_summary_is_read_as_it_was_written() -> None:
    run = summary_of(shipped(2000))
    assert read_summary(orjson.dumps(words.written(run)), "it") == run
    assert to_summary(words.written(run), "it") == run
    assert words.written(run)["format"] == FORMAT


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be used"),
        (b"[]", "cannot be used"),
        (b"null", "cannot be used"),
        (b"\xff\xfe", "cannot be used"),
        (b'{"run_id": "x"}', "cannot be used"),
        (b"[" * 100_000, "cannot be used"),
        (orjson.dumps({"format": FORMAT + 1}), f"is of format {FORMAT + 1}, and this version reads"),
        (orjson.dumps(written(shipped(10)) | {"counts": {"published": -1}}), "counts"),
        (orjson.dumps(written(shipped(10)) | {"settings": {}}), "settings"),
        (orjson.dumps(written(shipped(10)) | {"started_at": 1e308}), "started_at"),
    ],
)
def test_a_summary_that_is_none_is_one_clear_line(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"^it "):
        read_summary(data, "it")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_bytes(data)
    argv = [sys.executable, "-m", "queuebench", "report", str(folder)]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=clean_environment())
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"queuebench report: {folder / 'summary.json'} ")
    assert said in line


# ---- bounded ----


def test_settings_of_ten_thousand_characters_leave_a_report_readable() -> None:
    long = "x" * 10_000
    runs = [
        named("a", label=long, versions={"v": long}),
        named("b", label=long, versions={"v": "y" * 10_000}),
    ]
    settings = {"CHANNEL_NAME": long, "AWS_REGION": long, long: long}
    runs = [msgspec.structs.replace(run, settings=run.settings | settings) for run in runs]
    out = io.StringIO()
    show(runs, file=out)
    assert max(map(len, out.getvalue().splitlines())) <= 150
    assert len(out.getvalue()) < 30_000
    assert len(html(page_data([(run, []) for run in runs]))) - len(html(page_data([]))) < 150_000
    assert all(len(words.group_name(group)) < 400 for group in comparison.group(runs))


def test_a_report_of_many_runs_has_a_bounded_number_of_points() -> None:
    run, points = summary_of(shipped(2000)), [Point(START + second) for second in range(601)]
    runs = [(msgspec.structs.replace(run, run_id=str(number)), points) for number in range(50)]
    drawn = [len(each["series"]["t"]) for each in page_data(runs)["runs"]]
    assert sum(drawn) <= MOST_POINTS + 2 * len(runs)
    assert page_data(runs[:1])["runs"][0]["series"]["t"][-1] == 600.0


# ---- words ----


def test_one_of_a_thing_is_singular() -> None:
    run = shipped(1, slots=1, backlog_before={"queue": 1, "celery": 0})
    (publisher,) = run["publishers"].values()
    publisher["messages"] = 2
    summary = summary_of(run)
    said = [words.flaw(found) for found in summary.flaws] + [words.remark(found) for found in summary.remarks]
    assert "1 of 2 messages was not accepted" in said
    assert "1 message was in the queue before: shipped too, and in the way" in said
    assert "1 message is too few to tell capacity and cost by" in said
    assert words.counted(1, "slot") == "1 slot"


def test_terminal_codes_of_strangers_are_shown_and_not_obeyed() -> None:
    out = io.StringIO()
    show([named("a\x1b[31mb", label="q\x1b]0;x\x07")], file=out)
    assert "\x1b" not in out.getvalue()


def test_many_runs_fit_a_log() -> None:
    runs = [named(str(number), slots=100 + number, messages=1000 + number) for number in range(10)]
    out = io.StringIO()
    show(runs, file=out)
    assert max(map(len, out.getvalue().splitlines())) <= 125
    assert out.getvalue().count("CPU per message") == 2


def test_figures_need_neither_rich_nor_a_web_server() -> None:
    code = (
        "import sys, queuebench.figures.comparison, queuebench.figures.summary, queuebench.report.words;"
        "print(sorted({'rich', 'starlette', 'celery', 'redis', 'boto3', 'requests'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_publisher_without_a_terminal_does_without_rich() -> None:
    code = "import sys, queuebench.pipeline.publisher; print('rich' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_roles_of_a_summary_are_roles() -> None:
    assert set(summary_of(shipped(10)).resources) == set(Role) - {Role.DRAIN}


FIRST_USE = """
import sys, threading
from queuebench.figures.records import read_summary
sys.setswitchinterval(1e-6)
data, ready = sys.stdin.buffer.read(), threading.Barrier(8)
threads = [threading.Thread(target=lambda: (ready.wait(), read_summary(data, "it"))) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_read_summaries_for_the_first_time_at_once_do_not_end_the_process() -> None:
    data = encode(written(shipped()))
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", FIRST_USE], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr
