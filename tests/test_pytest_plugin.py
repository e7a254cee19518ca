"""The fixture `queuebench_sqs` in somebody else's project: by its entry point, in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from queuebench.bench.stack import clean_environment
from tests import ROOT

pytestmark = pytest.mark.slow

USER = """
import boto3
import pytest

seen = []


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_has_a_queue_of_its_own(queuebench_sqs, turn):
    client = boto3.client("sqs", **queuebench_sqs.client_settings)
    assert "Messages" not in client.receive_message(QueueUrl=queuebench_sqs.queue_url)
    client.send_message(QueueUrl=queuebench_sqs.queue_url, MessageBody="x")
    (message,) = client.receive_message(QueueUrl=queuebench_sqs.queue_url)["Messages"]
    assert message["Body"] == "x"
    seen.append((queuebench_sqs.url, queuebench_sqs.queue_url))


def test_the_server_is_the_same_and_the_queues_are_gone(queuebench_sqs):
    (url, first), (same, second) = seen
    assert url == same == queuebench_sqs.url and first != second
    client = boto3.client("sqs", **queuebench_sqs.client_settings)
    assert "QueueUrls" not in client.list_queues()


def test_queues_of_any_kind(queuebench_sqs):
    client = boto3.client("sqs", **queuebench_sqs.client_settings)
    dead = queuebench_sqs.new_queue(fifo=True)
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    url = queuebench_sqs.new_queue(
        fifo=True,
        ContentBasedDeduplication=True,
        VisibilityTimeout=7,
        RedrivePolicy={"deadLetterTargetArn": arn, "maxReceiveCount": 2},
    )
    made = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert made["ContentBasedDeduplication"] == "true" and made["VisibilityTimeout"] == "7"
    assert client.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    with pytest.raises(ValueError, match="CreateQueue: Unknown Attribute Colour"):
        queuebench_sqs.new_queue(Colour="red")
    client.delete_queue(QueueUrl=url)


def test_code_that_makes_its_own_client(queuebench_sqs, monkeypatch):
    for name, value in queuebench_sqs.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert boto3.client("sqs").send_message(QueueUrl=queuebench_sqs.new_queue(), MessageBody="x")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make somebody else's project, and what pip would put into its environment: the entry point."""
    declared = (ROOT / "pyproject.toml").read_text().partition("[project.entry-points.pytest11]\n")[2]
    entry = declared.partition("\n\n")[0].replace('"', "")
    info = tmp_path / "installed" / "queuebench-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: queuebench\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{entry}\n")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    # modules of theirs that are called as some of Python's own
    for name in ("queue.py", "types.py", "uvicorn.py"):
        (folder / name).write_text("raise RuntimeError('not meant')\n")
    return folder


def run(project: Path, test: str, *argv: str) -> subprocess.CompletedProcess[str]:
    (project / "test_theirs.py").write_text(textwrap.dedent(test))
    environment = clean_environment() | {"PYTHONPATH": f"{project.parent / 'installed'}:{ROOT}"}
    pytest = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    return subprocess.run([*pytest, *argv], cwd=project, env=environment, capture_output=True, text=True)


def test_it_gives_a_server_and_a_queue_of_ones_own(project: Path) -> None:
    done = run(project, USER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_servers_options_are_the_projects(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nqueuebench_sqs_options = --latency 0 --region eu-west-1\n")
    test = """
        def test_it(queuebench_sqs):
            assert "eu-west-1" in str(queuebench_sqs.client_settings)
            import boto3
            client = boto3.client("sqs", **queuebench_sqs.client_settings)
            arn = client.get_queue_attributes(QueueUrl=queuebench_sqs.queue_url, AttributeNames=["QueueArn"])
            assert ":eu-west-1:" in arn["Attributes"]["QueueArn"]
    """
    done = run(project, test)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_server_that_cannot_start_is_said_in_one_line(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\nqueuebench_sqs_options = --port 99999\n")
    done = run(project, "def test_it(queuebench_sqs): pass\n")
    assert done.returncode == 1
    said = [
        line for line in done.stdout.splitlines() if "did not start" in line and line.startswith("queueb")
    ]
    assert said == ["queuebench_sqs: the local SQS did not start: queuebench sqs: --port must be 0 to 65535"]


def test_who_does_not_use_it_imports_nothing_of_it(project: Path) -> None:
    test = """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] == "queuebench"}
            assert ours == {"queuebench", "queuebench.pytest_plugin"}
            assert not {"boto3", "uvicorn", "uvloop", "httptools", "msgspec", "orjson"} & set(sys.modules)
    """
    done = run(project, test)
    assert done.returncode == 0, done.stdout + done.stderr
