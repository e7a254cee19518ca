"""What a URL has for nobody's eyes is in no output, log, result, page or dead letter of a pipeline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis

from queuebench.bench.stack import Service, Stack
from tests import ROOT
from tests.transport_fixtures import until

pytestmark = pytest.mark.slow

SECRET = "hunter2"
# Whoever was let in before keeps its right; a user without a password is let in with any.
USER = f"default:{SECRET}@"


class GuardedStack(Stack):
    """A stack all of whose URLs have secrets, and whose worker tells as much as Celery can."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "REDIS", pool="threads")
        port = self.ports
        self.environment |= {
            "REDIS_PUBSUB_URL": f"redis://{USER}127.0.0.1:{port['redis']}/0",
            "REDIS_CELERY_URL": f"redis://127.0.0.1:{port['broker']}/0?username=default&password={SECRET}",
            "PUSH_URL": f"http://me:{SECRET}@127.0.0.1:{port['endpoint']}/push/{SECRET}?token={SECRET}&{SECRET}",
            "MONITOR_URL": f"http://me:{SECRET}@127.0.0.1:{port['monitor']}",
            "AWS_ENDPOINT_URL_SQS": f"http://me:{SECRET}@127.0.0.1:{port['sqs']}/?token={SECRET}",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "PUSH_SECONDS": "0.05",
            "PUSH_TRIES": "1",
            "ENDPOINT_FAIL_SHARE": "0.2",
            "WORKER_SLOTS": "20",
            # Neither does an arrow end a process whose output has no such character.
            "PYTHONIOENCODING": "ascii",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "LC_ALL": "C",
        }

    def add_worker(self, number: int) -> Service:
        service = super().add_worker(number)
        service.argv[service.argv.index("WARNING")] = "DEBUG"
        return service

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Everything that a run shows or leaves behind, by where it was."""
    folder, found = tmp_path_factory.mktemp("guarded"), {}
    with GuardedStack(folder) as stack:
        found["publisher"] = stack.run("publisher.py", "40", "--wait")
        found["dead letters"] = stack.run("-m", "queuebench", "dead-letters")
        with Redis(port=stack.ports["broker"]) as broker:
            found["dead letters in the broker"] = str(broker.lrange("dead_letters", 0, -1))
        monitor = f"http://127.0.0.1:{stack.ports['monitor']}"
        for page in ("/", "/data", "/metrics", "/report.html"):
            found[f"monitor{page}"] = requests.get(monitor + page, timeout=10).text
        for what in ("stats", "conf", "report"):
            found[f"inspect {what}"] = stack.run("-m", "celery", "-A", "task", "inspect", what)
        worker = stack.services["worker-1"]
        # Nobody answers any more, neither the endpoint nor the servers.
        stack.services["endpoint"].kill()
        found["to nobody"] = stack.run("publisher.py", "3")
        until(lambda: "trying again" in worker.output(), "the worker says that the endpoint is away")
        stack.services["broker"].kill()
        stack.services["redis"].kill()
        until(lambda: "Connection to broker lost" in worker.output(), "Celery says that the broker is away")
        subscriber = stack.services["subscriber-1"]
        until(lambda: "trying again" in subscriber.output(), "the subscriber says that its queue is away")
        for script in (
            "publisher.py 1",
            "subscriber.py",
            "-m celery -A task worker",
            "-m queuebench dead-letters",
        ):
            found[f"{script} without servers"] = stack.run(*script.split())
        worker.signal(signal.SIGQUIT)
        stack.services["monitor"].kill()
        found["publisher without a monitor"] = stack.run("publisher.py", "1", "--wait")
    for path in folder.rglob("*"):
        # What a Redis or the endpoint has on its disk is the messages.
        if path.is_file() and path.relative_to(folder).parts[0] in ("logs", "results"):
            found[str(path.relative_to(folder))] = path.read_bytes().decode(errors="replace")
    yield found


def test_the_run_was_one(shown: dict[str, str]) -> None:
    assert "40 of 40" in shown["publisher"] and "(try 1 of 1)" in shown["dead letters in the broker"]
    assert any(name.endswith("summary.json") for name in shown)
    assert "broker" in shown["inspect stats"] and "broker_url" in shown["inspect conf"]
    assert "does not answer" in shown["publisher.py 1 without servers"]


def test_what_the_encoding_lacks_is_escaped(shown: dict[str, str]) -> None:
    for name in ("worker-1", "subscriber-1"):
        assert "\\u2192" in shown[f"logs/{name}.log"]
    assert not [where for where, text in shown.items() if "UnicodeEncodeError" in text]


def test_no_secret_of_a_url_is_shown_anywhere(shown: dict[str, str]) -> None:
    leaks = [
        f"{where}: {line.strip()[:300]}"
        for where, text in shown.items()
        for line in text.splitlines()
        if SECRET in line
    ]
    assert leaks == []


def test_what_nobody_caught_is_shown_without_secrets() -> None:
    code = """
import threading
from queuebench.plumbing.printable import make_output_safe
make_output_safe()
def fail():
    raise OSError("http://me:hunter2@host/?token=hunter2")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
import gevent
greenlet = gevent.spawn(fail)
greenlet.join()
print("http://me:hunter2@host/?token=hunter2")
fail()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and SECRET not in done.stderr + done.stdout
    assert done.stderr.count("OSError: http://***@host/?token=***") == 3
    assert done.stdout == "http://***@host/?token=***\n"
