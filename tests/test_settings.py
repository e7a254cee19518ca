"""Settings are checked at the start, and every complaint names the setting and what it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from queuebench.bench.stack import Stack, clean_environment
from queuebench.errors import SettingsError
from queuebench.settings import load
from tests import ROOT


def test_nothing_set_works() -> None:
    settings = load({})
    assert (settings.queue, settings.messages, settings.local_sqs) == ("REDIS", (10_000,), False)


def test_several_queues_keep_fifo_at_the_end() -> None:
    assert load({"QUEUE_NAME": "q", "SQS_QUEUES": "3"}).queue_names == ("q", "q-2", "q-3")
    assert load({"QUEUE_NAME": "q.fifo", "SQS_QUEUES": "2"}).queue_names == ("q.fifo", "q-2.fifo")


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("", False),
        ("http://127.0.0.1:9324", True),
        ("http://sqs:9324", True),
        ("https://sqs.eu-west-1.amazonaws.com", False),
        ("https://vpce-0a.sqs.us-east-1.vpce.amazonaws.com", False),
    ],
)
def test_an_endpoint_that_is_not_aws_is_local(url: str, local: bool) -> None:
    assert load({"AWS_ENDPOINT_URL_SQS": url}).local_sqs is local


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MESSAGES", "-1"),
        ("MESSAGES", "0"),
        ("MESSAGES", "ten"),
        ("MESSAGES", "100,,200"),
        ("PUBLISHER_DELAY", "-0.1"),
        ("PUBLISHER_DELAY", "nan"),
        ("RATE", "-1"),
        ("RATE", "fast"),
        ("RATE", "0.0001"),
        ("RATE", "2000000"),
        ("ARRIVALS", "bursty"),
        ("DURATION", "-1"),
        ("DURATION", "1 min"),
        ("MESSAGE_BYTES", "-1"),
        ("MESSAGE_BYTES", "64k"),
        ("MESSAGE_BYTES", "1048577"),
        ("SQS_QUEUES", "0"),
        ("REDIS_PUBSUB_URL", "http://redis"),
        ("REDIS_CELERY_URL", "redis://"),
        ("PUSH_URL", "endpoint/push"),
        ("PUSH_SECONDS", "soon"),
        ("QUEUE_NAME", "no spaces"),
        ("QUEUE_NAME", "x" * 81),
        ("ENDPOINT_FAIL_SHARE", "2"),
        ("AWS_CREATE_QUEUES", "perhaps"),
        ("WORKER_SLOTS", "1.5"),
        ("WORKER_SLOTS", "-0"),
        ("PUSH_SECONDS", "1_0"),
        ("PUSH_SECONDS", "inf"),
        ("CHANNEL_NAME", " "),
        ("CHANNEL_NAME", "a\nb"),
        ("CHANNEL_NAME", "\udcff"),
        ("PUSH_URL", "http://a..b/"),
        ("PUSH_URL", "http://host:99999/"),
        ("REDIS_PUBSUB_URL", ""),
        ("AWS_ENDPOINT_URL_SQS", "http://local_sqs:9324"),
        ("AWS_ENDPOINT_URL_SQS", "http://-x:9324"),
        ("AWS_REGION", "us east"),
        ("AWS_REGION", "us_east!"),
    ],
)
def test_a_wrong_value_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({name: value})


@pytest.mark.parametrize(
    "name",
    [
        "celery",
        "celery:3",
        "unacked",
        "unacked_index",
        "_kombu.binding.celery",
        "_leased.leases",
        "dead_letters",
        "open_run",
        "celery.pidbox",
        "handed-over:x",
    ],
)
def test_a_channel_that_is_celerys_own_is_refused_in_the_same_database(name: str) -> None:
    same = {"REDIS_PUBSUB_URL": "redis://localhost/1", "CHANNEL_NAME": name}
    with pytest.raises(SettingsError, match="CHANNEL_NAME"):
        load(same)
    assert load(same | {"REDIS_PUBSUB_URL": "redis://localhost/2"}).channel_name == name
    assert load(same | {"CHANNEL_NAME": "celery_messages"}).channel_name == "celery_messages"


def test_two_settings_that_say_when_messages_are_sent_are_refused() -> None:
    for name, value in (("PROFILE", "1 for 5"), ("PUBLISHER_DELAY", "0.1")):
        with pytest.raises(SettingsError, match=f"RATE and {name}"):
            load({"RATE": "10", name: value})
    with pytest.raises(SettingsError, match="PROFILE and PUBLISHER_DELAY"):
        load({"PROFILE": "1 for 5", "PUBLISHER_DELAY": "0.1"})
    assert load({"RATE": "0", "PUBLISHER_DELAY": "0.1"}).publisher_delay == 0.1


@pytest.mark.parametrize(
    ("environ", "messages"),
    [
        ({}, (10_000,)),
        ({"RATE": "5"}, (10_000,)),
        ({"DURATION": "0"}, (10_000,)),
        ({"DURATION": "5"}, ()),
        ({"DURATION": "5", "MESSAGES": ""}, ()),
        ({"PROFILE": "1 for 5"}, ()),
        ({"DURATION": "5", "MESSAGES": "7"}, (7,)),
    ],
    ids=str,
)
def test_a_duration_alone_ends_publishing_unless_a_number_is_set(
    environ: dict[str, str], messages: tuple[int, ...]
) -> None:
    assert load(environ).messages == messages


def test_two_settings_that_say_what_messages_are_are_refused() -> None:
    with pytest.raises(SettingsError, match="MESSAGE_BYTES and MESSAGES_FILE"):
        load({"MESSAGE_BYTES": "10", "MESSAGES_FILE": "x.jsonl"})
    assert load({"MESSAGE_BYTES": "0", "MESSAGES_FILE": "x.jsonl"}).messages_file == "x.jsonl"


def test_a_warm_up_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="WARM_UP=5 takes all of DURATION=5"):
        load({"WARM_UP": "5", "DURATION": "5"})
    assert load({"WARM_UP": "5", "DURATION": "5.1"}).warm_up == load({"WARM_UP": "5"}).warm_up == 5.0


def test_queue_names_that_get_too_long_with_their_number_are_refused() -> None:
    with pytest.raises(SettingsError, match="QUEUE_NAME"):
        load({"QUEUE_NAME": "x" * 79, "SQS_QUEUES": "2"})


def test_nothing_secret_is_public() -> None:
    public = load({"REDIS_PUBSUB_URL": "redis://user:hunter2@10.0.0.1:6379/0"}).public()
    assert "hunter2" not in str(public)
    assert public["REDIS_PUBSUB_URL"] == "redis://***@10.0.0.1:6379/0"
    secrets = {
        "PUSH_URL": "https://me:hunter2@example.com/push?token=hunter2&hunter2",
        "REDIS_CELERY_URL": "redis://10.0.0.1/0?password=hunter2",
        "AWS_ENDPOINT_URL_SQS": "http://hunter2@sqs:9324",
        "MONITOR_URL": "http://monitor:8080/?key=hunter2",
    }
    assert "hunter2" not in str(load(secrets).public())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUSH_URL", "ftp://me:hunter2@example.com/?token=hunter2"),
        ("PUSH_URL", "https://me:hunter2@exa mple.com"),
        ("REDIS_PUBSUB_URL", "redis://:hunter2#@host"),
        ("REDIS_CELERY_URL", "redis://host/celery?password=hunter2"),
        ("REDIS_CELERY_URL", "user:hunter2@host:6379"),
    ],
)
def test_a_url_that_is_refused_shows_nothing_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        load({name: value})
    assert "hunter2" not in str(caught.value)


def test_a_minus_before_zero_is_nothing() -> None:
    assert str(load({"PUBLISHER_DELAY": "-0"}).publisher_delay) == "0.0"


ENV_LINE = "CHANNEL_NAME=números\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_dotenv_is_read_in_the_encoding_that_its_byte_order_mark_names(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(ENV_LINE.encode(encoding))
    monkeypatch.chdir(tmp_path)
    # Set first, so that it is put back as it was.
    monkeypatch.setenv("CHANNEL_NAME", "x")
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "0")
    del os.environ["CHANNEL_NAME"]
    assert load().channel_name == "números"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
@pytest.mark.parametrize("script", ["publisher.py 1", "subscriber.py", "-m celery -A task worker"])
def test_a_dotenv_in_another_encoding_is_one_line(tmp_path: Path, script: str, encoding: str) -> None:
    (tmp_path / ".env").write_bytes(f"# first\n{ENV_LINE}".encode(encoding))
    words = [str(ROOT / word) if word.endswith(".py") else word for word in script.split()]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(ROOT), "PYTHON_DOTENV_DISABLED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and ".env" in done.stderr and "UTF-8" in done.stderr


def run(script: str, **environment: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *script.split()],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr.strip(), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "environment", "said"),
    [
        ("publisher.py", {"QUEUE": "KAFKA"}, "QUEUE='KAFKA' is unknown; known: REDIS, SQS"),
        ("subscriber.py", {"QUEUE": "KAFKA"}, "QUEUE='KAFKA' is unknown; known: REDIS, SQS"),
        ("publisher.py", {"MESSAGES": "-1"}, "MESSAGES='-1': a positive whole number is needed"),
        ("publisher.py -5", {}, "-5"),
        ("publisher.py 10", {"REDIS_PUBSUB_URL": "redis://127.0.0.1:1/0"}, "does not answer"),
        ("subscriber.py", {"REDIS_PUBSUB_URL": "redis://127.0.0.1:1/0"}, "does not answer"),
        ("-m celery -A task worker", {"REDIS_CELERY_URL": "redis://127.0.0.1:1/0"}, "does not answer"),
        ("-m celery -A task worker", {"WORKER_SLOTS": "many"}, "WORKER_SLOTS='many'"),
        ("publisher.py 10 --wait", {}, "need a monitor"),
        ("publisher.py 10,20", {}, "need a monitor"),
        ("-m queuebench bench --queue KAFKA", {}, "known: REDIS, SQS"),
        ("-m queuebench bench --set NOPE=1", {}, "NOPE=1"),
        ("-m queuebench endpoint --port 99999", {}, "cannot listen"),
    ],
)
def test_a_wrong_setting_gives_one_clear_line_within_seconds(
    script: str, environment: dict[str, str], said: str
) -> None:
    code, stderr, seconds = run(script, **environment)
    assert code != 0
    assert said in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert seconds < 20


def test_a_missing_sqs_queue_is_explained(servers: Stack) -> None:
    # A server under another name than 127.0.0.1 that is AWS as far as the settings can tell.
    from queuebench.errors import QueueError
    from queuebench.queues import open_queue

    options = load({"QUEUE_NAME": "not-there"}).options()
    options |= {
        "aws_endpoint_url_sqs": servers.environment["AWS_ENDPOINT_URL_SQS"],
        "aws_region": "us-east-1",
    }
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    try:
        with pytest.raises(QueueError, match=r"has no queue 'not-there': create it, .* AWS_CREATE_QUEUES=1"):
            open_queue("SQS", options).check()
    finally:
        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["publisher.py 1", "subscriber.py"])
def test_no_credentials_are_explained(script: str) -> None:
    code, stderr, _ = run(script, QUEUE="SQS", AWS_REGION="us-east-1", HOME="/nonexistent")
    assert code == 2
    assert "no AWS credentials: set AWS_ACCESS_KEY_ID" in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_no_region_is_explained() -> None:
    code, stderr, _ = run(
        "publisher.py 1", QUEUE="SQS", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y", HOME="/nonexistent"
    )
    assert code == 2
    assert "set AWS_REGION" in stderr


def test_a_publisher_to_redis_imports_no_page_no_terminal_and_no_aws() -> None:
    code = (
        "import sys, queuebench.pipeline.publisher, queuebench.queues.redis_list; "
        "print({'rich', 'starlette', 'boto3', 'celery'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
