"""What a worker is told by its command line or the environment is harmless, or refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests import ROOT
from tests.celery_options import STARTS

pytestmark = pytest.mark.slow

ELSEWHERE = "redis://:hunter2@127.0.0.1:1/0"
REFUSED: tuple[tuple[dict[str, str], str, str, str], ...] = (
    ({"BROKER_URL": ELSEWHERE}, "", "", "BROKER_URL"),
    ({"CELERY_BROKER": ELSEWHERE}, "", "", "CELERY_BROKER "),
    ({"CELERY_BROKER_URL": ELSEWHERE}, "", "", "CELERY_BROKER_URL"),
    ({"CELERY_BROKER_URL": "redis://127.0.0.1:6379/1"}, "", "", "CELERY_BROKER_URL"),
    ({"CELERY_BROKER_READ_URL": ELSEWHERE}, "", "", "CELERY_BROKER_READ_URL"),
    ({"CELERY_BROKER_WRITE_URL": ELSEWHERE}, "", "", "CELERY_BROKER_WRITE_URL"),
    ({}, f"--broker {ELSEWHERE}", "", "--broker"),
    ({}, f"--broker={ELSEWHERE}", "", "--broker"),
    ({}, f"-b {ELSEWHERE}", "", "-b"),
    ({}, f"-b{ELSEWHERE}", "", "-b"),
    ({"CELERY_BROKER_URL": ELSEWHERE}, f"--broker {ELSEWHERE}", "", "--broker"),
    ({}, "", f"-- broker.url={ELSEWHERE}", "broker_url"),
    ({}, "", f"-- BROKER_URL={ELSEWHERE}", "broker_url"),
    ({}, "", "-- task.acks_late=0", "task_acks_late"),
    ({}, "", "-- task_reject_on_worker_lost=0", "task_reject_on_worker_lost"),
    ({}, "", "-- .consumer=celery.worker.consumer:Consumer", "worker_consumer"),
    ({}, "", "-- task.time_limit=1", "task_time_limit"),
    ({}, "", "-- .concurrency=3", "worker_concurrency"),
    ({"CELERY_RESULT_BACKEND": ELSEWHERE}, "", "", "CELERY_RESULT_BACKEND"),
    ({"RESULT_BACKEND": ELSEWHERE}, "", "", "RESULT_BACKEND"),
    ({}, f"--result-backend {ELSEWHERE}", "", "--result-backend"),
    ({}, "--result-backend=rpc://", "", "--result-backend"),
    ({}, "", "-P prefork", "-P prefork"),
    ({}, "", "-Pprefork", "-P prefork"),
    ({}, "", "-EPprefork", "-P prefork"),
    ({}, "", "--pool=prefork", "--pool prefork"),
    ({}, "", "--pool processes", "--pool processes"),
    ({}, "", "-P threads -P solo", "-P solo"),
    ({"CELERY_WORKER_POOL": "prefork"}, "", "", "CELERY_WORKER_POOL prefork"),
    ({"CELERY_WORKER_POOL": "solo"}, "", "", "CELERY_WORKER_POOL solo"),
    ({"CELERY_CUSTOM_WORKER_POOL": "celery.concurrency.solo:TaskPool"}, "", "-P solo", "-P solo"),
    # Celery patches for greenlets only where it finds the two words.
    ({}, "", "-Pgevent", "-P gevent"),
    ({"CELERY_WORKER_POOL": "gevent"}, "", "", "CELERY_WORKER_POOL gevent"),
    ({}, "", "-P threads -P gevent", "-P gevent"),
    ({}, "", "--autoscale=4,1", "--autoscale"),
    ({}, "", "--autoscale 4", "--autoscale"),
    ({"CELERY_WORKER_AUTOSCALE": "4,1"}, "", "", "CELERY_WORKER_AUTOSCALE"),
    ({}, "", "--time-limit=1", "--time-limit"),
    ({}, "", "--time-limit 0.5", "--time-limit"),
    ({}, "", "--soft-time-limit 1", "--soft-time-limit"),
    ({"CELERY_WORKER_TIME_LIMIT": "1"}, "", "", "CELERY_WORKER_TIME_LIMIT"),
    ({"CELERY_WORKER_SOFT_TIME_LIMIT": "1"}, "", "", "CELERY_WORKER_SOFT_TIME_LIMIT"),
    ({}, "", "-P gevent -B", "-B"),
    ({}, "", "--purge", "--purge"),
    ({}, "", "--discard", "--discard"),
    ({"CELERY_WORKER_PURGE": "1"}, "", "", "CELERY_WORKER_PURGE"),
)
HARMLESS: tuple[tuple[dict[str, str], str, str], ...] = (
    ({}, "", ""),
    ({}, "-q -C", "-P threads"),
    ({}, "", "--pool=threads -c 3"),
    ({}, "", "-P gevent -c3"),
    ({}, "", "--pool gevent --concurrency=3"),
    ({}, "", "--pool=gevent -c auto"),
    ({"CELERY_WORKER_CONCURRENCY": "3"}, "", "-EB -s /tmp/never-written"),
    ({}, "", "--without-gossip --without-mingle --without-heartbeat --heartbeat-interval 5"),
    ({}, "", "-Q one,two -X three -O fair --prefetch-multiplier 4 --disable-prefetch"),
    ({}, "", "--max-tasks-per-child 1 --max-memory-per-child=1 --pool-start-method spawn"),
    ({"CELERY_CONFIG_MODULE": "nowhere"}, "", ""),
    ({"CONFIG_MODULE": "nowhere"}, "", ""),
    ({"CELERY_CONFIG": "nowhere", "CELERY_LOADER": "nowhere:Loader", "LOADER": "nowhere:Loader"}, "", ""),
    ({}, "--config nowhere --loader default", ""),
    ({"DJANGO_SETTINGS_MODULE": "nowhere", "CELERY_SKIP_CHECKS": "", "C_STRICT_APP": "1"}, "", ""),
    ({"CELERY_WORKER_PREFETCH_MULTIPLIER": "-1", "CELERY_WORKER_QUEUES": "other"}, "", ""),
    ({"CELERY_ACCEPT_CONTENT": "pickle", "CELERY_TASK_SERIALIZER": "pickle"}, "", ""),
    ({"CELERY_TASK_ALWAYS_EAGER": "1", "CELERY_TASK_ACKS_LATE": "0", "CELERYD_POOL": "prefork"}, "", ""),
    ({"BROKER_URL": "", "CELERY_BROKER_URL": "", "CELERY_RESULT_BACKEND": "", "RESULT_BACKEND": ""}, "", ""),
    ({"BROKER_TRANSPORT": "memory", "BROKER_HOST": "nowhere", "KOMBU_LOG_CONNECTION": "1"}, "", ""),
)
# What Celery itself does not take.
WRONG = (
    "-P nonsense",
    "-P=gevent",
    "-c minus",
    "--autoscal 4,1",
    "--nonsense",
    "-- nonsense",
    "-- no.such=1",
)


def tried(redis_url: str, cases: list[tuple[dict[str, str], str, str]]) -> list[tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.celery_options"],
        cwd=ROOT,
        env=os.environ | {"REDIS_CELERY_URL": redis_url},
        input=json.dumps([(environ, before.split(), after.split()) for environ, before, after in cases]),
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    found: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases)
    return [(code, text) for code, text in found]


def test_what_would_take_a_guarantee_away_is_refused_in_one_line_that_names_it(redis_url: str) -> None:
    for case, (code, said) in zip(REFUSED, tried(redis_url, [case[:3] for case in REFUSED]), strict=True):
        lines = [line for line in said.splitlines() if "DeprecationWarning" not in line]
        assert code != 0 and len(lines) == 1, (case, said)
        assert lines[0].startswith("worker: ") and case[3] in lines[0] and "hunter2" not in said, (case, said)


def test_what_takes_none_away_does_not_keep_a_worker_from_starting(redis_url: str) -> None:
    for case, (_, said) in zip(HARMLESS, tried(redis_url, list(HARMLESS)), strict=True):
        assert said.splitlines()[-1:] == [STARTS], (case, said)


def test_what_celery_does_not_know_it_refuses_without_a_traceback(redis_url: str) -> None:
    for words, (code, said) in zip(
        WRONG, tried(redis_url, [({}, "", words) for words in WRONG]), strict=True
    ):
        assert code == 2 and "Error: " in said and "Traceback" not in said, (words, said)


def test_what_another_project_s_celery_is_told_when_it_is_imported_does_not_matter() -> None:
    environ = dict.fromkeys(("CELERY_CONFIG_MODULE", "CELERY_LOADER", "DJANGO_SETTINGS_MODULE"), "nowhere")
    environ |= {"C_STRICT_APP": "1", "CELERY_TRACE_APP": "1", "CELERY_ACCEPT_CONTENT": "pickle"}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "task", "report"],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "task_acks_late: True" in done.stdout and "accept_content: ['json']" in done.stdout
