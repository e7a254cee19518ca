from typing import Any

import msgspec
import pytest

from queuebench.figures.records import read_summary
from queuebench.figures.summary import summarise
from queuebench.measuring.records import Ending, FormatError, ProcessReport, RunRecord, decode, encode
from queuebench.monitor import prometheus
from queuebench.report import words
from queuebench.report.page import html, page_data
from tests.records import START, process, record, shipped, totals, written
from tests.test_run import NOW, opened, report

SERVER = {
    "version": "7.0",
    "run_id": "r",
    "at": START,
    "used_memory": 2**20,
    "counters": {},
    "peak_before": 0,
    "peak_memory": 3 * 2**20,
    "cpu_seconds": 1.0,
    "busy_seconds": 0.0,
    "busy_cpu_seconds": 0.0,
    "evicted_keys": 0,
    "refused_for_memory": 0,
    "restarts": 0,
    "appendonly": "yes",
    "appendfsync": "everysec",
}


def test_a_run_of_nothing_has_zeros_and_no_division_by_them() -> None:
    summary = written(record())
    assert summary["counts"]["published"] == summary["counts"]["delivered"] == 0
    assert summary["seconds"] == {"publish": 0.0, "drain": 0.0, "total": 0.0}
    assert set(summary["rates"].values()) == {0.0}
    assert summary["latency_ms"]["end_to_end"]["count"] == 0
    assert summary["how_many"] is None
    assert summary["bottleneck"]["stage"] == "none"
    assert summary["valid"]


def test_one_message_takes_as_long_as_it_took() -> None:
    summary = written(shipped(1, slots=1, push_seconds=0.5, celery_wait=0.01, queue_wait=0.02))
    assert summary["counts"]["delivered"] == 1
    assert summary["counts"]["lost"] == summary["counts"]["duplicated"] == 0
    assert summary["latency_ms"]["push"]["p50"] == pytest.approx(500, rel=0.005)
    assert summary["latency_ms"]["push"]["count"] == 1
    # From the beginning of the publish call to the endpoint's answer.
    assert summary["seconds"]["total"] == pytest.approx(1.5)
    assert summary["rates"]["push"] == pytest.approx(2.0)


def test_counts_and_rates_of_n_messages_are_over_each_stage_s_own_time() -> None:
    summary = written(shipped(10_000, slots=200, push_seconds=1.0, publish_seconds=0.2))
    assert summary["counts"] == {
        "published": 10_000,
        "unconfirmed": 0,
        "received": 10_000,
        "handed_over": 10_000,
        "pushed": 10_000,
        "delivered": 10_000,
        "lost": 0,
        "duplicated": 0,
        "dead_lettered": 0,
        "retried": 0,
    }
    assert summary["rates"]["publish"] == pytest.approx(50_000)
    assert summary["rates"]["push"] == pytest.approx(200)
    assert summary["seconds"]["total"] == pytest.approx(51.0)


def test_what_warmed_up_counts_and_is_in_no_rate() -> None:
    before = shipped(10_000, slots=200, push_seconds=1.0, publish_seconds=0.2)
    after = shipped(10_000, slots=200, push_seconds=1.0, publish_seconds=0.2)
    counted = {"publisher": "published", "subscriber": "received", "worker": "pushed", "endpoint": "arrived"}
    for each in after["processes"].values():
        counts = each["totals"]["counts"]
        counts["untimed"] = 2000
        counts[counted[each["role"]]] += 2000
        if each["role"] == "publisher":
            each["totals"]["accepted"] = [[0, 11_999]]
        if each["role"] == "subscriber":
            counts["handed_over"] += 2000
    after["publishers"]["p/0"] |= {"messages": 12_000, "accepted": [[0, 11_999]]}
    after["tally"] |= {"distinct": 12_000, "arrived": [[0, 11_999]]}
    cold, warm = written(before), written(after)
    assert warm["counts"]["delivered"] == 12_000
    assert warm["load"]["warm_up_messages"] == 2000
    for same in ("rates", "latency_ms", "seconds", "slot_seconds", "slots_share", "valid"):
        assert warm[same] == cold[same], same


def test_a_run_that_only_warmed_up_measured_nothing() -> None:
    run = shipped(100, settings={"WARM_UP": "5"})
    for each in run["processes"].values():
        each["totals"] |= totals({**each["totals"]["counts"], "untimed": 100}, accepted=[(0, 99)])
    found = written(run)
    assert not found["valid"]
    assert found["reasons"] == ["nothing was measured: all was sent in the 5 s of WARM_UP"]


def test_idle_time_between_two_spells_of_a_stage_is_not_active_time() -> None:
    publisher = process(
        "publisher",
        totals=totals({"published": 200}, {}, {"publish": [(0, 1), (11, 12)]}, [(0, 199)]),
    )
    summary = written(record([publisher], messages=200, arrived=[(0, 199)]))
    assert summary["seconds"]["publish"] == pytest.approx(2.0)
    assert summary["rates"]["publish"] == pytest.approx(100.0)


def test_two_processes_at_work_at_once_are_active_once() -> None:
    halves = [
        process("publisher", totals=totals({"published": 50}, {}, {"publish": [(0, 2)]}, [(0, 49)])),
        process("publisher", totals=totals({"published": 50}, {}, {"publish": [(1, 3)]}, [(50, 99)])),
    ]
    summary = written(record(halves, messages=100, arrived=[(0, 99)]))
    assert summary["counts"]["published"] == 100
    assert summary["seconds"]["publish"] == pytest.approx(3.0)
    assert summary["resources"]["publisher"]["processes"] == 2


def test_what_was_accepted_and_never_arrived_is_lost_and_the_run_valid_all_the_same() -> None:
    run = shipped(100)
    run["ended"], run["tally"]["missing"], run["tally"]["distinct"] = "lost", [[3, 3], [50, 51]], 97
    summary = written(run)
    assert (summary["counts"]["lost"], summary["counts"]["delivered"]) == (3, 97)
    assert summary["valid"]


def test_nothing_is_lost_as_long_as_the_run_is_open() -> None:
    run = shipped(100, ended=None, ended_at=None)
    run["tally"] |= {"distinct": 10, "arrived": []}
    summary = written(run)
    assert (summary["counts"]["lost"], summary["counts"]["delivered"], summary["valid"]) == (0, 10, True)


def test_duplicates_are_counted_and_no_flaw() -> None:
    run = shipped(100)
    run["tally"]["duplicates"] = 4
    summary = written(run)
    assert summary["counts"]["duplicated"] == 4
    assert summary["valid"]


def test_arrivals_that_no_publisher_confirmed_are_neither_lost_nor_duplicated() -> None:
    run = shipped(100)
    run["tally"]["arrived"], run["tally"]["distinct"] = [[0, 104]], 105
    summary = written(run)
    assert (summary["counts"]["unconfirmed"], summary["counts"]["lost"]) == (5, 0)
    assert "5 messages arrived that no publisher had confirmed" in summary["warnings"]


def test_an_endpoint_that_is_not_ours_proves_nothing() -> None:
    run = shipped(100)
    run["tally"] = {"proven": False, "distinct": 0, "duplicates": 0, "arrived": [], "missing": []}
    summary = written(run)
    assert summary["counts"]["delivered"] == 100
    assert any("not proven" in warning for warning in summary["warnings"])


def test_a_message_that_was_not_accepted_makes_the_run_invalid() -> None:
    run = shipped(100)
    next(iter(run["publishers"].values()))["messages"] = 120
    assert written(run)["reasons"] == ["20 of 120 messages were not accepted"]


@pytest.mark.parametrize(
    ("asked", "answered", "late"),
    [(1.0, 1.09, False), (1.0, 1.12, True), (0.2, 0.29, False), (0.2, 0.31, True), (3.0, 3.28, False)],
)
def test_an_endpoint_may_be_late_by_a_tenth_or_100_ms(asked: float, answered: float, late: bool) -> None:
    summary = written(shipped(100, push_seconds=answered, settings={"PUSH_SECONDS": str(asked)}))
    assert summary["valid"] is not late
    assert any("answered late" in reason for reason in summary["reasons"]) is late


def test_a_worker_whose_slots_or_cpu_are_full_is_no_flaw() -> None:
    busy = {"worker": {"seconds": 40.0, "cpu_seconds": 39.8}}
    assert written(shipped(10_000, busy=busy))["valid"]


def test_clocks_that_disagree_make_the_run_invalid_beyond_what_can_be_measured() -> None:
    run = shipped(100)
    worker = next(p for p in run["processes"].values() if p["role"] == "worker")
    worker["clock"] = {"offset_seconds": 0.5, "within_seconds": 0.45}
    assert written(run)["valid"]
    worker["clock"] = {"offset_seconds": 0.5, "within_seconds": 0.01}
    summary = written(run)
    assert summary["clocks_apart_seconds"] == pytest.approx(0.489)
    assert "clocks" in summary["reasons"][0]


def test_negative_latencies_are_counted_shown_and_make_a_run_invalid_where_they_are_large() -> None:
    run = shipped(10)
    subscriber = next(p for p in run["processes"].values() if p["role"] == "subscriber")
    kept = subscriber["totals"]
    kept["latencies"]["queue_wait"] = totals({}, {"queue_wait": [-0.004, 0.1, 0.2]})["latencies"][
        "queue_wait"
    ]
    summary = written(run)
    waits = summary["latency_ms"]["queue_wait"]
    assert (waits["count"], waits["negative"], waits["lowest"]) == (3, 1, -4.0)
    assert summary["valid"]
    assert any("queue wait: 1 of 3 latencies is negative" in warning for warning in summary["warnings"])
    kept["latencies"] = totals({}, {"queue_wait": [-3.0]})["latencies"]
    assert "-3.00 s" in written(run)["reasons"][0]


@pytest.mark.parametrize("what", ["evicted_keys", "refused_for_memory"])
def test_a_server_that_evicted_or_ran_out_of_memory_makes_the_run_invalid(what: str) -> None:
    summary = written(shipped(100, servers={"queue": SERVER | {what: 12}}))
    assert len(summary["reasons"]) == 1
    assert "12" in summary["reasons"][0]


def test_a_server_s_restart_is_said_with_what_it_may_have_lost() -> None:
    summary = written(shipped(100, servers={"queue": SERVER | {"restarts": 1}}))
    assert summary["valid"]
    assert "restarted once" in summary["warnings"][0]
    assert "everysec may lose" in summary["warnings"][0]
    assert written(shipped(100, servers={"queue": SERVER}))["warnings"] == summary["warnings"][1:]


def test_a_run_that_did_not_finish_is_invalid() -> None:
    assert "did not finish" in written(shipped(100, ended="not finished"))["reasons"][0]


def test_a_publisher_out_of_cpu_is_a_warning() -> None:
    run = shipped(10_000, publish_seconds=1.0)
    publisher = next(iter(run["processes"].values()))
    publisher["totals"]["counts"]["publish_cpu_us"] = 950_000
    summary = written(run)
    assert summary["resources"]["publisher"]["cpu_share"] == pytest.approx(0.95)
    assert summary["valid"]
    assert any("the publish rate is the publisher's own" in warning for warning in summary["warnings"])


def test_cpu_is_the_run_s_alone_and_start_up_is_apart() -> None:
    worker = written(shipped(10_000, worker_cpu=10.0))["resources"]["worker"]
    assert worker["cpu_seconds"] == pytest.approx(10.0)
    assert worker["startup_cpu_seconds"] == pytest.approx(3.0)
    assert worker["cpu_us_per_message"] == pytest.approx(1000.0)


def test_sqs_calls_are_counted_by_action_and_the_monitor_s_own_apart() -> None:
    run = shipped(
        100,
        settings={"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"},
        publisher={"requests": {"SendMessageBatch": 10}},
        subscriber={"requests": {"ReceiveMessage": 14, "empty_receives": 4, "DeleteMessageBatch": 10}},
        measuring_requests={"GetQueueAttributes": 9},
    )
    sqs = written(run)["sqs"]
    assert sqs["requests"] == {"DeleteMessageBatch": 10, "ReceiveMessage": 14, "SendMessageBatch": 10}
    assert (sqs["empty_receives"], sqs["measuring_requests"]) == (4, {"GetQueueAttributes": 9})
    assert written(shipped(100))["sqs"] is None


def test_processes_that_had_no_part_in_the_run_are_not_counted_in() -> None:
    run = shipped(100)
    run["processes"]["idle"] = process("subscriber", cpu=0.3)
    assert written(run)["resources"]["subscriber"]["processes"] == 1


def test_the_summary_has_every_key_that_other_programs_read() -> None:
    summary = written(shipped(100))
    promised: dict[str, Any] = {
        "counts": "published unconfirmed received handed_over pushed delivered lost duplicated dead_lettered",
        "seconds": "publish drain total",
        "rates": "publish receive hand_over push",
        "latency_ms": "publish queue_wait hand_over celery_wait push end_to_end",
        "cost": "sqs_usd messages_per_day queue_usd_per_month workers_usd_per_month",
        "bottleneck": "stage why",
    }
    for name, keys in promised.items():
        assert set(keys.split()) <= set(summary[name])
    plain = "run_id queue local messages started_at settings versions resources sqs valid reasons warnings"
    assert set(plain.split()) <= set(summary)
    assert {"count", "p50", "p90", "p95", "p99", "p999", "max"} <= set(summary["latency_ms"]["push"])
    used = {"processes", "cpu_seconds", "cpu_us_per_message", "max_rss_mib"}
    assert used <= set(summary["resources"]["worker"])
    assert summary["started_at"] == START


LATENCIES = {"buckets": {"5": 10**15}, "negative": 0, "total_ns": 10**30, "lowest_ms": -4e12, "max_ms": 4e12}
EXTREMES: list[dict[str, Any]] = [
    {"cpu_seconds": 4e9},
    {"startup_cpu_seconds": 4e9},
    {"slots": 10**15},
    {"max_rss_mib": 1e9},
    {"started_at": 1e11, "now": 1e11},
    {"requests": {"SendMessage": 10**15 - 1, "throttled": 1}},
    {"unassigned": {"held_back_ms": 10**15}},
    {"runs": {"run": {"counts": {"pushed": 10**15, "published": 10**15, "received": 10**15}}}},
    {"runs": {"run": {"counts": {"pushed": 1}, "latencies": {"push": LATENCIES, "post": LATENCIES}}}},
    {"runs": {"run": {"counts": {"pushed": 10**15}, "active": {"push": [[1.0, 1.0000000001]]}}}},
    {"runs": {"run": {"counts": {"pushed": 10**15}, "active": {"push": [[0.0, 5e-324], [1.0, 1e11]]}}}},
    {"runs": {"run": {"accepted": [[0, 10**15]]}}},
    {"clock": {"offset_seconds": -1e11, "within_seconds": 0.0}},
]


@pytest.mark.parametrize("extreme", EXTREMES, ids=lambda extreme: str(extreme)[:60])
@pytest.mark.parametrize("role", ["publisher", "worker"])
def test_whatever_a_report_may_say_becomes_a_summary_that_can_be_read_again(
    extreme: dict[str, Any], role: str
) -> None:
    run = opened(queue="SQS", label="AWS SQS")
    for name in ("one", "two"):
        told = msgspec.to_builtins(report(name, role, NOW + 1)) | extreme
        run.report(decode(encode(told), ProcessReport, "the report"), NOW + 1)
    run.judge(NOW + 2, empty=True)
    run.close(NOW + 3, Ending.LOST)
    record = decode(encode(run.record), RunRecord, "the record")
    data = msgspec.json.encode(words.written(summarise(record)))
    again = read_summary(data, "the summary")
    html(page_data([(again, [])]))
    prometheus.exposition(again, None)


@pytest.mark.parametrize(
    "beyond",
    [
        {"runs": {"run": {"latencies": {"push": LATENCIES | {"total_ns": 10**400}}}}},
        {"runs": {"run": {"latencies": {"push": LATENCIES | {"negative": 1}}}}},
        {"requests": {"SendMessage": 10**15, "ReceiveMessage": 1}},
        {"requests": {"SendMessage": 10**18}},
        {"runs": {"run": {"counts": {"pushed": 10**18}}}},
    ],
    ids=lambda beyond: str(beyond)[:60],
)
def test_sums_that_no_process_can_have_are_refused(beyond: dict[str, Any]) -> None:
    told = msgspec.to_builtins(report("w", "worker", NOW)) | beyond
    with pytest.raises(FormatError):
        decode(msgspec.json.encode(told), ProcessReport, "the report")
