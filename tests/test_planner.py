from typing import Any

import pytest

from queuebench.figures import planner
from queuebench.figures.cost import LONG_POLL_SECONDS, break_even
from queuebench.measuring.records import Role
from queuebench.queues import sqs
from queuebench.report import words
from tests.records import shipped, summary_of, totals, written

SQS = {"QUEUE": "SQS", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}
FIFO = SQS | {"QUEUE_NAME": "phones.fifo"}


def test_full_slots_are_the_bottleneck_with_the_rate_that_they_allow() -> None:
    found = written(shipped(10_000, slots=200, push_seconds=1.0))["bottleneck"]
    assert (found["stage"], found["why"]) == ("worker", "200 slots ÷ 1.0 s = 200/s")
    assert (found["limit"], found["slots"], found["slot_seconds"]) == ("slots", 200, 1.0)


def test_a_worker_without_cpu_left_is_the_bottleneck() -> None:
    run = shipped(10_000, slots=1000, busy={"worker": {"seconds": 40.0, "cpu_seconds": 39.2}})
    worker = next(p for p in run["processes"].values() if p["role"] == "worker")
    worker["totals"]["active"]["push"][0][1] += 30
    found = written(run)["bottleneck"]
    assert found["stage"] == "worker"
    assert found["why"].startswith("CPU 98%")


def test_a_machine_without_cpu_left_is_named_where_no_process_has_a_core_of_its_own() -> None:
    busy = {"worker": {"seconds": 40.0, "cpu_seconds": 24.0, "machine_cpu_seconds": 79.0}}
    run = shipped(10_000, slots=1000, busy=busy)
    worker = next(p for p in run["processes"].values() if p["role"] == "worker")
    worker["totals"]["active"]["push"][0][1] += 30
    found = written(run)["bottleneck"]
    assert (found["stage"], found["why"]) == (
        "machine",
        "its 2 cores are full (99%), worker's CPU 60%",
    )


def test_messages_that_wait_in_the_queue_name_the_subscriber() -> None:
    busy = {"subscriber": {"seconds": 20.0, "cpu_seconds": 19.6}}
    found = written(shipped(10_000, queue_wait=25.0, celery_wait=0.01, busy=busy))["bottleneck"]
    assert found["stage"] == "subscriber"
    assert found["why"].startswith("CPU 98%")


def test_a_subscriber_that_was_held_back_is_not_to_blame() -> None:
    run = shipped(10_000, queue_wait=25.0, celery_wait=10.0)
    subscriber = next(p for p in run["processes"].values() if p["role"] == "subscriber")
    subscriber["latest"]["unassigned"] = {"held_back_ms": 30_000}
    assert written(run)["bottleneck"]["stage"] == "worker"


def test_a_fifo_quota_is_named_where_calls_were_throttled() -> None:
    calls = {"ReceiveMessage": 3_300, "DeleteMessageBatch": 1_000, "throttled": 2_000}
    run = shipped(10_000, queue_wait=5.0, celery_wait=0.1, settings=FIFO, subscriber={"requests": calls})
    found = written(run)["bottleneck"]
    assert found["stage"] == "local SQS"
    assert found["why"] == "FIFO quota 130 calls/s (2,000 of 4,300 calls were throttled)"


def test_a_paced_publisher_is_the_bottleneck_of_a_run_that_keeps_up() -> None:
    run = shipped(
        100, queue_wait=0.01, celery_wait=0.01, publish_seconds=50.0, settings={"PUBLISHER_DELAY": "1"}
    )
    found = written(run)["bottleneck"]
    assert (found["stage"], found["why"]) == ("publisher", "PUBLISHER_DELAY=1 paces it: 2.0/s")


def paced(per_second: float = 100.0, *, behind: int = 0, late_ms: float = 1.0, **more: Any) -> dict[str, Any]:
    """Return the record of a run of 6,000 messages that were due in a minute."""
    known = {"queue_wait": 0.02, "celery_wait": 0.01, "publish_seconds": 60.0, **more}
    run = shipped(6000, settings={"RATE": str(per_second), "DURATION": "60"}, **known)
    run["publishers"]["p/0"] |= {"per_second": per_second}
    publisher = run["processes"]["0"]["totals"]
    publisher["counts"]["intended"] = 6000 + behind
    publisher["latencies"] |= totals(latencies={"publish_lateness": [late_ms / 1e3] * 6000})["latencies"]
    return run


def test_a_rate_that_was_kept_and_carried_leaves_nothing_to_name() -> None:
    found = written(paced())
    assert found["bottleneck"]["stage"] == "none"
    assert found["bottleneck"]["why"] == "load as asked, 100.0/s, and everything kept up"
    assert found["load"] == {
        "asked": 100.0,
        "offered": 100.0,
        "profile": "",
        "faster": 1.0,
        "arrivals": "even",
        "duration": 60.0,
        "warm_up": 0.0,
        "warm_up_messages": 0,
        "message_bytes": 0,
        "unnumbered": 0,
        "intended": 6000,
        "behind": 0,
    }
    assert found["warnings"] == []


def test_a_rate_that_was_kept_and_not_carried_names_what_messages_waited_for() -> None:
    assert written(paced(celery_wait=5.0, slots=101))["bottleneck"]["stage"] == "worker"
    assert written(paced(queue_wait=2.0))["bottleneck"]["stage"] == "subscriber"


@pytest.mark.parametrize(
    ("off", "said"),
    [
        ({"behind": 31}, "lateness p99 995 µs, 31 of 6,031 messages due not sent in time"),
        ({"late_ms": 60.0}, "lateness p99 60 ms, 0 of 6,000 messages due not sent in time"),
    ],
    ids=["behind", "late"],
)
def test_a_rate_that_was_not_kept_is_said_to_be_the_publisher_s(off: dict[str, Any], said: str) -> None:
    found = written(paced(**off))
    (warning,) = found["warnings"]
    assert warning == (
        f"publisher late: 100.0/s of 100.0/s asked, {said}: the rate is the publisher's, not the queue's"
    )
    assert found["bottleneck"]["stage"] == "publisher"
    assert found["valid"]


def test_within_half_a_per_cent_a_rate_is_kept() -> None:
    assert written(paced(behind=30))["warnings"] == []


def test_what_was_asked_is_the_sum_of_all_publishers() -> None:
    run = paced()
    run["publishers"]["q/0"] = run["publishers"]["p/0"] | {"process": "q", "messages": 0}
    assert summary_of(run).load.asked == 200.0


def test_a_few_messages_are_bound_by_the_post_itself() -> None:
    found = written(shipped(5, slots=1000, queue_wait=0.05, celery_wait=0.01))["bottleneck"]
    assert found["stage"] == "endpoint"


def test_a_late_endpoint_is_the_bottleneck() -> None:
    found = written(shipped(1000, push_seconds=1.6))["bottleneck"]
    assert found["stage"] == "endpoint"


def test_how_many_answers_the_original_question_with_its_arithmetic() -> None:
    run = summary_of(shipped(10_000, slots=1000, push_seconds=1.0, worker_cpu=8.0, subscriber_cpu=0.5))
    answer = words.written(run)["how_many"]
    assert answer["text"] == "1,000,000 in 1 hour: 278 slots = 1 worker, 1 subscriber; about $0.10"
    # 2 processes × $0.0363 and an hour of a Redis at $0.032
    assert answer["usd"] == pytest.approx(2 * 0.0363 + 0.032)
    assert answer["arithmetic"][0] == "1,000,000 ÷ 3,600 s = 277.8/s"
    assert "1,000/s a worker process (1,000 slots ÷ 1.0 s)" in answer["arithmetic"][2]


def test_ten_times_the_target_takes_ten_times_the_slots() -> None:
    run = summary_of(shipped(10_000, slots=1000, worker_cpu=20.0))
    answer = planner.how_many(run, run.capacity, run.cost, 10_000_000, 1.0)
    assert answer is not None
    # 2,778/s; by CPU a worker carries 1 ÷ 2 ms = 500/s.
    assert (answer.slots, answer.workers, answer.subscribers) == (2778, 6, 1)
    slower = planner.how_many(run, run.capacity, run.cost, 10_000_000, 10.0)
    assert slower is not None
    assert (slower.slots, slower.workers) == (278, 1)


def test_a_redis_is_paid_by_the_hour_and_sqs_by_the_request() -> None:
    redis = written(shipped(10_000))["cost"]
    assert redis["sqs_usd"] is None
    assert redis["queue_usd_per_month"] == pytest.approx(0.032 * 730, abs=0.01)
    calls = {"ReceiveMessage": 1_100, "DeleteMessageBatch": 1_000, "empty_receives": 100}
    run = shipped(
        10_000,
        settings=SQS,
        publisher={"requests": {"SendMessageBatch": 1_000}},
        subscriber={"requests": calls},
    )
    cost = written(run)["cost"]
    assert cost["sqs_usd"] == pytest.approx(3_100 * 0.40e-6)
    assert cost["queue_usd_per_million"] == pytest.approx(0.12)
    # 8 lanes ask every 20 s for a month, and 0.3 requests a message.
    polls = 8 * 730 * 180 * 0.40e-6
    assert cost["queue_usd_per_month"] == pytest.approx(polls + 0.12 * 730 / 24, abs=0.01)


def test_fifo_requests_cost_more() -> None:
    run = shipped(10_000, settings=FIFO, publisher={"requests": {"SendMessageBatch": 1_000}})
    assert written(run)["cost"]["sqs_usd"] == pytest.approx(1_000 * 0.50e-6)


def test_at_the_break_even_volume_both_queues_cost_the_same() -> None:
    volume = break_even(23.36, 0.84, 0.12e-6)
    assert volume is not None
    assert 0.84 + volume * 730 / 24 * 0.12e-6 == pytest.approx(23.36, rel=1e-6)
    assert break_even(0.5, 0.84, 0.12e-6) is None
    assert break_even(23.36, 0.84, 0.0) is None


def test_workers_are_paid_for_the_hours_that_the_volume_needs() -> None:
    summary = written(shipped(10_000, slots=1000, worker_cpu=20.0))
    # 1,000,000 a day at 500/s is 2,000 s a day.
    assert summary["cost"]["workers_usd_per_month"] == pytest.approx(
        2000 / 3600 * 730 / 24 * 0.0363, abs=0.01
    )


def test_the_price_of_idle_polls_is_that_of_the_wait_that_the_subscriber_asks_for() -> None:
    assert sqs.Sqs.wait_seconds == LONG_POLL_SECONDS


def test_a_worker_that_carries_less_than_one_in_ten_seconds_has_a_plan_too() -> None:
    run = summary_of(shipped(2000, slots=1, push_seconds=45.0))
    assert run.capacity[Role.WORKER].per_second == pytest.approx(1 / 45, rel=0.001)
    assert run.how_many is not None
    assert run.how_many.workers == pytest.approx(1_000_000 / 3600 * 45, rel=0.001)
    assert "÷ 0.0222/s a worker process (1 slot ÷ 45.0 s)" in " ".join(words.arithmetic(run.how_many))
