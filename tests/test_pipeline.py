"""The whole system: N published are N that arrived at the endpoint, on both queues."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from redis import Redis

from queuebench.bench.stack import Service, Stack
from queuebench.broker.dead_letters import KEY as DEAD_LETTERS
from queuebench.broker.dead_letters import DeadLetter
from tests import ROOT

pytestmark = pytest.mark.slow

QUICK = {"PUSH_SECONDS": "0.1", "WORKER_SLOTS": "200"}


@contextmanager
def pipeline(folder: Path, queue: str, **options: Any) -> Iterator[Stack]:
    settings = QUICK | options.pop("settings", {})
    options.setdefault("sqs_options", ["--latency", "0"])
    with Stack(folder, queue, settings=settings, **options) as stack:
        yield stack


def publish(stack: Stack, messages: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "queuebench", "publisher", messages, *options],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def summaries(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(stack.results.glob("*/summary.json"))]


def tally(stack: Stack, run: str = "") -> dict[str, Any]:
    answer = requests.get(
        f"http://127.0.0.1:{stack.ports['endpoint']}/tally", params={"run": run, "numbers": "1"}, timeout=5
    )
    found: dict[str, Any] = answer.json()
    return found


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)


def assert_verdict(stack: Stack, code: int) -> None:
    """Hold an exit code to the runs' verdicts; that a busy machine's endpoint answers late is no flaw."""
    found = summaries(stack)
    assert found
    reasons = [reason for summary in found for reason in summary["reasons"]]
    assert all("the endpoint answered late" in reason for reason in reasons), reasons
    assert code == (1 if reasons else 0)


def assert_all_arrived(stack: Stack, messages: int) -> None:
    (summary,) = summaries(stack)
    counts = summary["counts"]
    assert (counts["published"], counts["delivered"], counts["lost"]) == (messages, messages, 0)
    assert counts["duplicated"] == 0
    assert tally(stack, summary["run_id"])["numbers"] == [[0, messages - 1]]


STANDARD, FIFO = {"QUEUE_NAME": "q"}, {"QUEUE_NAME": "q.fifo"}


@pytest.mark.parametrize(
    ("queue", "subscribers", "settings"),
    [
        ("REDIS", 1, {}),
        ("REDIS", 3, {}),
        ("REDIS", 1, {"SHIPMENTS_PER_TASK": "10"}),
        ("SQS", 1, STANDARD),
        ("SQS", 3, STANDARD),
        ("SQS", 1, STANDARD | {"SQS_QUEUES": "3"}),
        ("SQS", 3, FIFO),
        ("SQS", 1, FIFO | {"SQS_QUEUES": "3"}),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_every_published_message_arrives_once(
    tmp_path: Path, queue: str, subscribers: int, settings: Mapping[str, str]
) -> None:
    with pipeline(tmp_path, queue, subscribers=subscribers, settings=settings) as stack:
        done = publish(stack, "2000", "--wait")
        assert_verdict(stack, done.returncode)
        assert "accepted 2,000 of 2,000" in done.stdout
        assert_all_arrived(stack, 2000)


@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
def test_two_publishers_share_a_run_and_no_number(tmp_path: Path, queue: str) -> None:
    with pipeline(tmp_path, queue) as stack:
        both = [stack.publish("1500", "--wait") for _ in range(2)]
        for publisher in both:
            assert_verdict(stack, publisher.wait(timeout=90))
        assert_all_arrived(stack, 3000)


@pytest.mark.parametrize(("queue", "arrivals"), [("REDIS", "poisson"), ("SQS", "even")])
def test_publishers_keep_to_a_rate_for_a_while_and_the_run_speaks_of_their_sum(
    tmp_path: Path, queue: str, arrivals: str
) -> None:
    settings = {"RATE": "100", "ARRIVALS": arrivals, "DURATION": "2", "WARM_UP": "0.5"}
    with pipeline(tmp_path, queue, settings=settings) as stack:
        both = [stack.publish("", "--wait") for _ in range(2)]
        for publisher in both:
            assert_verdict(stack, publisher.wait(timeout=90))
        (summary,) = summaries(stack)
        counts, load = summary["counts"], summary["load"]
        assert counts["delivered"] == counts["published"] == summary["messages"]
        assert counts["lost"] == counts["unconfirmed"] == 0
        assert (load["asked"], load["arrivals"], load["duration"]) == (200, arrivals, 2)
        # However busy the machine is: what was due was sent, or is said to have been left.
        assert load["intended"] == counts["published"] + load["behind"]
        assert load["intended"] == 400 if arrivals == "even" else 300 < load["intended"] < 500
        # What warmed up was shipped and counted, and has no latency.
        assert 0 < load["warm_up_messages"] < 200
        timed = counts["published"] - load["warm_up_messages"]
        stages = ("publish_lateness", "publish", "queue_wait", "hand_over", "celery_wait", "post", "push")
        found = {name: summary["latency_ms"][name]["count"] for name in (*stages, "end_to_end", "answer")}
        assert found == dict.fromkeys(found, timed)


def test_bodies_of_one_s_own_are_shipped_and_those_that_are_none_end_as_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_text('{"p":"1","m":"a","r":"theirs","i":1}\n{"x":1}\nhello\n')
    with pipeline(tmp_path, "REDIS", settings={"MESSAGES_FILE": str(path)}) as stack:
        done = publish(stack, "30", "--wait")
        assert_verdict(stack, done.returncode)
        assert "accepted 20 of 20" in done.stdout
        (summary,) = summaries(stack)
        counts = summary["counts"]
        assert (summary["messages"], summary["load"]["unnumbered"]) == (20, 10)
        assert (counts["published"], counts["delivered"], counts["dead_lettered"]) == (20, 10, 10)
        assert counts["lost"] == 0
        eventually(lambda: len(dead_letters(stack)) == 20)
        bodies = [letter.body for letter in dead_letters(stack)]
        assert bodies.count(b"hello") == 10


def test_the_threads_pool_ships_too_and_a_list_is_that_many_runs(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", pool="threads") as stack:
        done = publish(stack, "100,300,200", "--wait")
        assert_verdict(stack, done.returncode)
        assert [s["counts"]["delivered"] for s in summaries(stack)] == [100, 300, 200]


def test_the_publisher_keeps_to_a_random_pace(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", settings={"PUBLISHER_DELAY": "0.02"}) as stack:
        done = publish(stack, "100", "--wait")
        assert_verdict(stack, done.returncode)
        (summary,) = summaries(stack)
        # 100 pauses of 10 ms on average, one message a call.
        assert 0.3 < summary["seconds"]["publish"] < 5
        assert summary["latency_ms"]["publish"]["count"] == 100


def test_without_a_monitor_everything_still_ships(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS") as stack:
        stack.services["monitor"].stop()
        stack.environment["MONITOR_URL"] = ""
        assert publish(stack, "500").returncode == 0
        eventually(lambda: any(end[1] == 499 for end in _only_run(stack)))


def _only_run(stack: Stack) -> list[list[int]]:
    log = (stack.folder / "endpoint.log").read_text().split()
    runs = {line.rpartition("-")[0] for line in log}
    return tally(stack, runs.pop())["numbers"] if len(runs) == 1 else []


BROKEN = {
    b"hello": "not JSON",
    b"\xff\xfe\x00": "not JSON",
    b"[1]": "not a JSON object but an array",
    b'{"m":"x"}': "p is missing",
    b'{"p":"","m":"x"}': "p is empty",
    b'{"p":5,"m":"x"}': "p must be a string",
    b'{"p":"1","m":"x","i":"5"}': "i must be a whole number",
    b'{"p":"1","m":"' + b"x" * 1_100_000 + b'"}': "longer than",
}


# What SNS makes of a message, without raw delivery; with it, the message is as its producer wrote it.
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf32f",
    "TopicArn": "arn:aws:sns:us-east-1:1:phones",
    "Message": '{"p":"+5511999990000","m":"olá","t":1795593834123}',
    "Timestamp": "2026-11-25T08:03:54.123Z",
}


def dead_letters(stack: Stack) -> list[DeadLetter]:
    with Redis.from_url(stack.environment["REDIS_CELERY_URL"]) as broker:
        records: Any = broker.lrange(DEAD_LETTERS, 0, -1)
    return [DeadLetter.decode(record) for record in records]


def redis_cli(stack: Stack, *words: str) -> None:
    """Push as a person would: with redis-cli where there is one."""
    if shutil.which("redis-cli"):
        subprocess.run(["redis-cli", "-u", stack.environment["REDIS_PUBSUB_URL"], *words], check=True)
    else:
        with Redis.from_url(stack.environment["REDIS_PUBSUB_URL"]) as client:
            client.execute_command(*words)


def test_redis_producers_that_are_not_ours_are_shipped_and_broken_messages_kept(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS") as stack:
        redis_cli(stack, "RPUSH", "phone_numbers", '{"p":"+5511999990000","m":"hello"}')
        redis_cli(stack, "RPUSH", "phone_numbers", '{"p":"+5511999990000","m":"olá","i":3}')
        redis_cli(stack, "RPUSH", "phone_numbers", '{"p":"+5511999990000","m":"x","id":"ordem nº 5\\n"}')
        redis_cli(stack, "RPUSH", "phone_numbers", json.dumps(NOTIFICATION))
        with Redis.from_url(stack.environment["REDIS_PUBSUB_URL"]) as client:
            client.rpush("phone_numbers", *BROKEN)
        redis_cli(stack, "RPUSH", "phone_numbers", '{"p":"1","m":"the last one","r":"theirs","i":0}')
        eventually(lambda: tally(stack)["distinct"] == 4 and tally(stack, "theirs")["distinct"] == 1)
        letters = {letter.body: letter.reason for letter in dead_letters(stack)}
        assert letters.keys() == BROKEN.keys()
        for body, reason in BROKEN.items():
            assert reason in letters[body]


def test_sqs_producers_that_are_not_ours_are_shipped_and_broken_messages_kept(tmp_path: Path) -> None:
    with pipeline(tmp_path, "SQS") as stack:
        client = boto3.client(
            "sqs",
            endpoint_url=stack.environment["AWS_ENDPOINT_URL_SQS"],
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="y",
        )
        url = client.get_queue_url(QueueName="phone_numbers")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody='{"p":"+5511999990000","m":"hello"}')
        client.send_message(QueueUrl=url, MessageBody='{"p":"+5511999990000","m":"olá","i":3}')
        client.send_message(QueueUrl=url, MessageBody=json.dumps(NOTIFICATION))
        sendable = [body for body in BROKEN if len(body) < 1_000_000 and b"\xff" not in body]
        for body in sendable:
            client.send_message(QueueUrl=url, MessageBody=body.decode())
        eventually(lambda: tally(stack)["distinct"] == 3 and len(dead_letters(stack)) == len(sendable))
        assert {letter.body for letter in dead_letters(stack)} == set(sendable)


def test_celery_code_of_others_can_call_the_task(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS") as stack:
        code = (
            "from celery import Celery\n"
            f"app = Celery(broker={stack.environment['REDIS_CELERY_URL']!r})\n"
            "app.send_task('push_data', ['+5511999990000', 'hello'])\n"
            "from queuebench.pipeline.app import push_data\n"
            "push_data.delay('+5511999990000', 'hello again')\n"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=stack.environment, check=True, timeout=60)
        eventually(lambda: tally(stack)["distinct"] == 2)


@pytest.mark.parametrize("role", ["subscriber", "worker"])
@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
def test_a_role_told_to_stop_under_load_loses_nothing(tmp_path: Path, queue: str, role: str) -> None:
    with pipeline(tmp_path, queue, **{f"{role}s": 2}) as stack:
        publisher = stack.publish("6000", "--wait")
        first: Service = stack.services[f"{role}-1"]
        eventually(lambda: b"-" in (stack.folder / "endpoint.log").read_bytes())
        first.signal(signal.SIGTERM)
        assert first.process is not None
        assert first.process.wait(timeout=30) == 0
        assert_verdict(stack, publisher.wait(timeout=120))
        assert_all_arrived(stack, 6000)


def test_what_was_there_before_is_said_and_shipped(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", subscribers=0) as stack:
        redis_cli(stack, "RPUSH", "phone_numbers", '{"p":"1","m":"early"}')
        publisher = subprocess.Popen(
            [sys.executable, "-m", "queuebench", "publisher", "100", "--wait"],
            cwd=ROOT,
            env=stack.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        # It has joined, and so has said what was there.
        eventually(lambda: any(stack.results.iterdir()))
        stack.add_subscriber(1).start()
        output, _ = publisher.communicate(timeout=60)
        assert_verdict(stack, publisher.returncode)
        assert "1 messages were there before" in output
        assert tally(stack)["distinct"] == 1


def test_a_run_left_open_with_servers_that_are_gone_is_not_gone_on_with(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with pipeline(tmp_path / "first", "REDIS", subscribers=0, results=results) as stack:
        assert stack.publish("50").wait(timeout=60) == 0
    (left_open,) = results.iterdir()
    with pipeline(tmp_path / "second", "REDIS", results=results) as stack:
        assert_verdict(stack, stack.publish("100", "--wait").wait(timeout=120))
        assert_all_arrived(stack, 100)
        assert not (left_open / "summary.json").exists()


def test_a_monitor_that_starts_without_the_broker_goes_on_with_the_run_once_it_answers(
    tmp_path: Path,
) -> None:
    with pipeline(tmp_path, "REDIS", subscribers=0) as stack:
        assert stack.publish("100").wait(timeout=60) == 0
        (run,) = stack.results.iterdir()
        stack.services["monitor"].kill()
        stack.services["broker"].kill()
        stack.services["monitor"].start()
        progress = f"{stack.environment['MONITOR_URL']}/runs/{run.name}/progress"
        assert requests.get(progress, timeout=10).status_code == 503
        stack.services["broker"].start()
        eventually(lambda: requests.get(progress, timeout=10).status_code == 200)
        stack.add_subscriber(1).start()
        eventually(lambda: bool(summaries(stack)))
        assert_all_arrived(stack, 100)


def test_a_message_that_vanished_is_lost_and_the_publisher_says_so(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", subscribers=0) as stack:
        publisher = stack.publish("100", "--wait")
        with Redis.from_url(stack.environment["REDIS_PUBSUB_URL"]) as client:
            eventually(lambda: client.llen("phone_numbers") == 100)
            client.lpop("phone_numbers", 3)
        stack.add_subscriber(1).start()
        assert publisher.wait(timeout=90) == 1
        (summary,) = summaries(stack)
        assert (summary["counts"]["delivered"], summary["counts"]["lost"]) == (97, 3)


def test_the_endpoint_keeps_its_tally_across_a_kill(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS") as stack:
        assert_verdict(stack, publish(stack, "300", "--wait").returncode)
        run = summaries(stack)[0]["run_id"]
        stack.services["endpoint"].kill()
        with (stack.folder / "endpoint.log").open("ab") as log:
            log.write(b"torn-by-the-cra")
        stack.services["endpoint"].start()
        assert tally(stack, run)["numbers"] == [[0, 299]]
        requests.post(stack.environment["PUSH_URL"], headers={"Idempotency-Key": f"{run}-5"}, timeout=5)
        assert tally(stack, run)["duplicates"] == 1


def test_an_endpoint_that_fails_some_is_tried_again(tmp_path: Path) -> None:
    settings = {"ENDPOINT_FAIL_SHARE": "0.2", "ENDPOINT_SLOW_SHARE": "0.005", "ENDPOINT_SLOW_SECONDS": "2"}
    with pipeline(tmp_path, "REDIS", settings=settings) as stack:
        done = publish(stack, "1000", "--wait")
        assert_all_arrived(stack, 1000)
        assert re.search(r"lost\D+0", done.stdout)


def test_with_no_url_a_post_is_a_sleep_and_delivery_is_not_proven(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", settings={"PUSH_URL": ""}) as stack:
        done = publish(stack, "500", "--wait")
        assert_verdict(stack, done.returncode)
        assert "not proven" in done.stdout
        assert summaries(stack)[0]["counts"]["delivered"] == 500


def test_stopping_a_publisher_says_how_many_were_accepted(tmp_path: Path) -> None:
    with pipeline(tmp_path, "REDIS", settings={"PUBLISHER_DELAY": "0.1"}) as stack:
        publisher = subprocess.Popen(
            [sys.executable, "-m", "queuebench", "publisher", "1000"],
            cwd=ROOT,
            env=stack.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: bool((stack.folder / "endpoint.log").read_bytes()))
        publisher.send_signal(signal.SIGINT)
        output, _ = publisher.communicate(timeout=30)
        assert publisher.returncode == 130
        assert re.search(r"accepted \d+ of 1,000 messages .*stopped", output)
