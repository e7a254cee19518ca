"""Real runs in which something is known beforehand: the figures must say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from redis import Redis

from queuebench.bench.stack import Stack

pytestmark = pytest.mark.slow

RUN_SECONDS = 120.0


def only_summary(stack: Stack) -> dict[str, Any]:
    (path,) = stack.results.glob("*/summary.json")
    summary: dict[str, Any] = orjson.loads(path.read_bytes())
    return summary


def newest_summary(stack: Stack) -> dict[str, Any]:
    path = max(stack.results.glob("*/summary.json"), key=lambda found: found.stat().st_mtime_ns)
    summary: dict[str, Any] = orjson.loads(path.read_bytes())
    return summary


def wait_for_depth(redis: Redis, depth: int) -> None:
    give_up_at = time.monotonic() + 30
    while redis.llen("phone_numbers") != depth:
        assert time.monotonic() < give_up_at, redis.llen("phone_numbers")
        time.sleep(0.02)


def test_known_delays_and_failures_are_what_the_run_reports(tmp_path: Path) -> None:
    settings = {"PUSH_SECONDS": "0.3", "ENDPOINT_FAIL_SHARE": "0.02", "WORKER_SLOTS": "100"}
    with Stack(tmp_path, "REDIS", subscribers=0, settings=settings) as stack:
        redis = Redis.from_url(stack.environment["REDIS_PUBSUB_URL"])
        began = time.time()
        publisher = stack.publish("1000", "--wait")
        wait_for_depth(redis, 1000)
        published = time.time()
        time.sleep(5.0)  # the injected delay itself
        started = time.time()
        stack.add_subscriber(1).start()
        ready = time.time()
        assert publisher.wait(timeout=RUN_SECONDS) == 0
    summary = only_summary(stack)
    latency = summary["latency_ms"]
    assert summary["counts"]["delivered"] == 1000
    assert summary["counts"]["lost"] == summary["counts"]["duplicated"] == 0
    # What the endpoint takes, with the retries' pauses only in the tail.
    assert 300 <= latency["answer"]["p50"] < 400
    assert 300 <= latency["push"]["p50"] < 600
    assert latency["queue_wait"]["p50"] >= (started - published) * 1000 * 0.995
    assert latency["queue_wait"]["p50"] <= (ready + 5 - began) * 1000
    assert latency["end_to_end"]["p50"] >= 5300
    # Each of the 2 % that failed was tried again: 20 of 1,000, as chance has it.
    assert summary["counts"]["retried"] == summary["endpoint"]["refused"]
    assert 3 <= summary["counts"]["retried"] <= 45
    assert summary["latency_ms"]["push"]["count"] == 1000
    assert {"publisher", "subscriber", "worker", "endpoint"} == set(summary["resources"])
    assert all(used["cpu_seconds"] > 0 for used in summary["resources"].values())


@pytest.fixture(scope="module")
def held_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A pipeline without a subscriber, so that what waits in the queue can be meddled with."""
    settings = {"PUSH_SECONDS": "0.1", "WORKER_SLOTS": "50"}
    with Stack(tmp_path_factory.mktemp("held"), "REDIS", subscribers=0, settings=settings) as stack:
        stack.add_subscriber(1)
        yield stack


def run_with(stack: Stack, meddle: Any) -> tuple[int, dict[str, Any]]:
    redis = Redis.from_url(stack.environment["REDIS_PUBSUB_URL"])
    publisher = stack.publish("200", "--wait")
    wait_for_depth(redis, 200)
    meddle(redis)
    subscriber = stack.services["subscriber-1"]
    subscriber.start()
    code = publisher.wait(timeout=RUN_SECONDS)
    assert subscriber.stop() == 0
    return code, newest_summary(stack)


def test_a_message_that_was_secretly_removed_is_lost_and_the_exit_code_says_so(held_stack: Stack) -> None:
    code, summary = run_with(held_stack, lambda redis: redis.lpop("phone_numbers"))
    assert code == 1
    assert summary["counts"]["lost"] == 1
    assert summary["counts"]["delivered"] == 199
    assert summary["ended"] == "lost"
    assert summary["valid"]


def test_a_message_that_came_twice_is_duplicated_and_no_flaw(held_stack: Stack) -> None:
    def copy(redis: Redis) -> None:
        first: Any = redis.lindex("phone_numbers", 0)
        redis.rpush("phone_numbers", first)

    code, summary = run_with(held_stack, copy)
    assert code == 0
    assert summary["counts"]["duplicated"] == 1
    assert summary["counts"]["lost"] == 0
    assert summary["counts"]["delivered"] == 200


def test_an_endpoint_that_is_slow_makes_the_run_invalid(tmp_path: Path) -> None:
    settings = {"PUSH_SECONDS": "0.1", "ENDPOINT_SLOW_SHARE": "0.3", "ENDPOINT_SLOW_SECONDS": "0.8"}
    with Stack(tmp_path, "REDIS", settings=settings | {"WORKER_SLOTS": "50"}) as stack:
        assert stack.publish("200", "--wait").wait(timeout=RUN_SECONDS) == 1
    summary = only_summary(stack)
    assert not summary["valid"]
    assert "the endpoint answered late" in summary["reasons"][0]
    assert summary["counts"]["lost"] == 0


def test_a_worker_whose_slots_are_full_is_the_bottleneck_and_no_flaw(tmp_path: Path) -> None:
    settings = {"PUSH_SECONDS": "0.5", "WORKER_SLOTS": "20"}
    with Stack(tmp_path, "REDIS", settings=settings) as stack:
        assert stack.publish("400", "--wait").wait(timeout=RUN_SECONDS) == 0
        scraped = requests.get(stack.environment["MONITOR_URL"] + "/metrics", timeout=10)
    summary = only_summary(stack)
    assert summary["valid"]
    assert summary["bottleneck"]["stage"] == "worker"
    assert summary["bottleneck"]["why"].startswith("20 slots ÷ 0.5") or summary["bottleneck"][
        "why"
    ].startswith("20 slots ÷ 5")
    assert 'queuebench_messages_total{queue="Redis",state="delivered"} 400.0' in scraped.text
    assert scraped.headers["content-type"].startswith("text/plain")
    folder = stack.results / summary["run_id"]
    assert (folder / "report.html").stat().st_size > 10_000
    points = [orjson.loads(line) for line in (folder / "series.jsonl").read_bytes().splitlines()]
    assert points[-1]["delivered"] == 400


def test_a_fifo_quota_that_binds_is_named(tmp_path: Path) -> None:
    settings = {"PUSH_SECONDS": "0.1", "WORKER_SLOTS": "500", "QUEUE_NAME": "phones.fifo"}
    options = ["--latency", "0", "--fifo-quota", "15"]
    with Stack(tmp_path, "SQS", settings=settings, sqs_options=options) as stack:
        # A busy machine may make the endpoint late, and the run not valid; the quota binds all the same.
        assert stack.publish("1000", "--wait").wait(timeout=RUN_SECONDS) in (0, 1)
    summary = only_summary(stack)
    assert summary["counts"]["delivered"] == 1000
    assert summary["sqs"]["throttled"] > 0
    assert summary["label"] == "local SQS"
    assert summary["bottleneck"]["stage"] == "local SQS"
    assert summary["bottleneck"]["why"].startswith("FIFO quota")


def test_a_queue_that_ran_out_of_memory_makes_the_run_invalid_though_nothing_is_lost(tmp_path: Path) -> None:
    settings = {"PUSH_SECONDS": "0.1", "WORKER_SLOTS": "200"}
    with Stack(tmp_path, "REDIS", subscribers=0, settings=settings) as stack:
        redis = Redis.from_url(stack.environment["REDIS_PUBSUB_URL"])
        redis.config_set("maxmemory", 1)
        publisher = stack.publish("1000", "--wait")
        give_up_at = time.monotonic() + 30
        errors: Any = {}
        while "errorstat_OOM" not in errors:
            errors = redis.info("errorstats")
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        redis.config_set("maxmemory", 0)
        stack.add_subscriber(1).start()
        assert publisher.wait(timeout=RUN_SECONDS) == 1
    summary = only_summary(stack)
    assert summary["counts"]["delivered"] == 1000
    assert summary["counts"]["lost"] == 0
    assert "ran out of memory" in summary["reasons"][0]


def test_a_monitor_that_is_killed_goes_on_with_the_run_and_its_figures(tmp_path: Path) -> None:
    with Stack(tmp_path, "REDIS", settings={"PUSH_SECONDS": "0.5", "WORKER_SLOTS": "50"}) as stack:
        publisher = stack.publish("600", "--wait")
        monitor = stack.services["monitor"]
        give_up_at = time.monotonic() + 30
        while sum(1 for path in stack.results.glob("*/series.jsonl") for _ in path.open()) < 3:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        monitor.kill()
        monitor.start()
        assert publisher.wait(timeout=RUN_SECONDS) == 0
    summary = only_summary(stack)
    assert summary["counts"]["delivered"] == 600
    assert summary["latency_ms"]["push"]["count"] == 600
    assert summary["valid"]
