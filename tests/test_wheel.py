"""The wheel in environments that have nothing else: each extra is enough for what it is meant for."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from queuebench.bench.stack import Service, clean_environment, free_port
from tests import ROOT

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]


# Nothing of the checkout.
ENVIRONMENT = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}


def run(argv: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from what git knows of the checkout, so that nothing that lies about gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    files = run(["git", "ls-files", "-z"], ROOT).stdout.split("\0")
    for file in filter(None, files):
        target = folder / "source" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / file).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source"], folder)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


Install = Callable[[str], Path]


@pytest.fixture
def install(wheel: Path, tmp_path: Path) -> Install:
    def into_new_environment(extra: str) -> Path:
        """Return the folder with the commands of a new environment that has the wheel with one extra."""
        folder = tmp_path / "environment"
        venv.create(folder, with_pip=True)
        commands = folder / "bin"
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        pip = [str(commands / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = run([*pip, "install", what], tmp_path)
        assert done.returncode == 0, done.stderr
        return commands

    return into_new_environment


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def installed(commands: Path) -> set[str]:
    listed = run([commands / "python", "-m", "pip", "list", "--format", "json"], commands)
    return {package["name"].lower() for package in json.loads(listed.stdout)}


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    known = set(run(["git", "ls-files", "queuebench"], ROOT).stdout.split())
    assert names == known


def test_the_report_needs_no_extra_and_other_verbs_say_which_they_need(install: Install, empty: Path) -> None:
    commands = install("")
    assert run([commands / "queuebench", "report", "--help"], empty).returncode == 0
    assert not installed(commands) & {"celery", "kombu", "redis", "boto3", "uvicorn", "requests"}
    for verb, extra in (("sqs", "sqs"), ("bench", "all"), ("subscriber", "all")):
        refused = run([commands / "queuebench", verb], empty)
        assert refused.returncode == 2
        (line,) = refused.stderr.splitlines()
        assert line.endswith(f"pip install 'queuebench[{extra}]'")


def test_the_local_sqs_needs_its_extra_alone(install: Install, empty: Path) -> None:
    commands = install("sqs")
    assert not installed(commands) & {"celery", "kombu", "redis", "boto3", "requests"}
    argv = [str(commands / "queuebench"), "sqs", "--port", str(free_port())]
    server = Service("sqs", argv, ENVIRONMENT, empty / "log", r"listens on http")
    server.start()
    assert server.stop() == 0


FIXTURE = """
def test_it(queuebench_sqs):
    assert queuebench_sqs.queue_url.startswith(queuebench_sqs.url)
"""


def test_the_pytest_fixture_needs_pytest_and_the_extra_of_the_local_sqs_alone(
    install: Install, empty: Path
) -> None:
    commands = install("sqs")
    done = run([commands / "python", "-m", "pip", "--quiet", "install", "pytest"], empty)
    assert done.returncode == 0, done.stderr
    (empty / "test_theirs.py").write_text(FIXTURE)
    used = run([commands / "pytest", "-q"], empty)
    assert used.returncode == 0, used.stdout + used.stderr


TRANSPORT = """
from celery import Celery
from queuebench.broker import transport
app = Celery("somebody")
app.conf.update(transport.celery_settings("redis://127.0.0.1:6379/0", 10))
print(app.connection().transport_cls)
"""


def test_the_transport_needs_its_extra_alone(install: Install, empty: Path) -> None:
    commands = install("transport")
    assert not installed(commands) & {"boto3", "uvicorn", "requests", "starlette", "gevent"}
    used = run([commands / "python", "-c", TRANSPORT], empty)
    assert used.returncode == 0, used.stderr


def test_everything_is_measured_from_an_empty_folder(install: Install, empty: Path) -> None:
    commands = install("all")
    done = run([commands / "queuebench", "bench", "--flood", "--messages", "300"], empty)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300" in done.stdout
    assert {path.name for path in empty.iterdir()} == {"results"}
    assert len(list((empty / "results").glob("*/summary.json"))) == 2
    celery = run([commands / "celery", "-A", "queuebench.pipeline.app", "report"], empty)
    assert celery.returncode == 0, celery.stderr
