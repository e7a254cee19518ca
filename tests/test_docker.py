"""What people do with docker-compose, in a fresh clone of the last commit and a real Docker Engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from queuebench.bench.stack import free_port
from tests import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

COMPOSE_2 = ("docker", "compose")
COMPOSE_1 = ("docker-compose",)
PERSON = 12345  # somebody who is not root and in no image
SECRET = "sentinel-4f1d-of-a-secret-key"
WAIT_SECONDS = 300.0

# An endpoint so slow is not late on a busy machine, which would make the run invalid.
LIGHT = "MESSAGES=300\nWORKER_SLOTS=100\nPUSH_SECONDS=3\n"
# Some 20 seconds of work: long enough to do something to it.
BURST = 3000
LOAD = f"MESSAGES={BURST}\nWORKER_SLOTS=150\n"


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """Skip on a laptop without an engine; fail in CI."""
    for command in (("docker", "info"), (*COMPOSE_2, "version"), (*COMPOSE_1, "version")):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            what = f"no Docker Engine with both Compose generations: {' '.join(command)}: {error}"
            if os.environ.get("CI"):
                pytest.fail(what)
            pytest.skip(what)


class Project:
    """A fresh clone, and the containers that a person starts in it."""

    def __init__(self, folder: Path, compose: Sequence[str]) -> None:
        self.name = f"queuebench-test-{uuid.uuid4().hex[:8]}"
        self.folder, self.results = folder, folder / "results"
        self._compose = list(compose)
        self.page = f"http://127.0.0.1:{free_port()}"
        self.flower = f"http://127.0.0.1:{free_port()}"
        kept = {name: value for name, value in os.environ.items() if name != "PYTHON_DOTENV_DISABLED"}
        self._environment = kept | {
            "COMPOSE_PROJECT_NAME": self.name,
            "MONITOR_PORT": self.page.rpartition(":")[2],
            "FLOWER_PORT": self.flower.rpartition(":")[2],
        }
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)

    def write_env(self, text: str) -> None:
        """Write the `.env`."""
        (self.folder / ".env").write_text(text)

    def compose(self, *arguments: str, exit_code: int | None = 0) -> str:
        """Run docker-compose and return what it printed; None: whatever its exit code."""
        with self.popen(*arguments) as running:
            try:
                output, _ = running.communicate(timeout=WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
                output, _ = running.communicate()
        said = f"{' '.join(arguments)} → {running.returncode}:\n{output[-6000:]}"
        assert exit_code is None or running.returncode == exit_code, said
        return output

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start docker-compose without waiting for it."""
        return subprocess.Popen(
            [*self._compose, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def containers(self, service: str = "", running: bool = True) -> list[str]:
        """Return the ids of a service's containers."""
        labels = [f"com.docker.compose.project={self.name}"]
        labels += [f"com.docker.compose.service={service}"] * bool(service)
        filters = [option for label in labels for option in ("--filter", f"label={label}")]
        return docker("ps", "--quiet", "--no-trunc", *([] if running else ["--all"]), *filters).split()

    def wait_for_publisher(self) -> None:
        """Wait until the publisher has ended."""
        docker("wait", *self.containers("publisher", running=False))

    def delivered(self) -> int:
        """Return how many have arrived, as the newest line of the time series has it."""
        lines = [
            line for path in self.results.glob("*/series.jsonl") for line in path.read_text().splitlines()
        ]
        return max((json.loads(line)["delivered"] for line in lines if line.endswith("}")), default=0)

    def wait_until_busy(self) -> None:
        """Wait until shipments arrive, most being still on their way."""
        until(lambda: self.delivered() >= 300, "300 shipments have arrived")

    def wait_for_summary(self) -> dict[str, Any]:
        """Wait for the end of the one run and return its summary."""
        until(lambda: list(self.results.glob("*/summary.json")), "the run is over")
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Return the summary of the one run."""
        [path] = self.results.glob("*/summary.json")
        summary: dict[str, Any] = json.loads(path.read_text())
        return summary

    def settings(self, role: str) -> dict[str, Any]:
        """Return the settings that a container of this role works with."""
        ask = "import json; from queuebench import settings; print(json.dumps(settings.load().public()))"
        self.compose("build")
        output = self.compose("run", "--rm", "--no-deps", "--entrypoint", "python", role, "-c", ask)
        found: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
        return found

    def remove(self) -> None:
        """Remove containers, networks, volumes and the image."""
        print(self.compose("logs", "--tail", "20", exit_code=None))
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "3", exit_code=None)
        for kind in ("container", "volume", "network"):
            every = ["--all"] * (kind == "container")
            left = docker(
                kind, "ls", *every, "--quiet", "--filter", f"label=com.docker.compose.project={self.name}"
            )
            for each in left.split():
                docker(kind, "rm", *["--force"] * (kind == "container"), each)
        subprocess.run(["docker", "image", "rm", "--force", self.name], capture_output=True, check=False)
        shutil.rmtree(self.folder)


def docker(*arguments: str) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, f"not after {WAIT_SECONDS:g} s: {what}"
        time.sleep(0.2)


def get(url: str) -> bytes:
    """Return what a URL answers, or nothing while nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError):
        return b""


def root_processes(container: str) -> list[str]:
    """Return the processes of a container that run as root."""
    found = []
    for line in docker("top", container, "-eo", "pid,args").splitlines()[1:]:
        pid, _, command = line.strip().partition(" ")
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has ended
            continue
        uids = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)", status, re.M)
        assert uids is not None
        if "0" in uids.groups():
            found.append(command)
    return found


def all_shipped(summary: dict[str, Any], published: int) -> None:
    """Assert that nothing is lost and nothing given up."""
    counts = summary["counts"]
    assert (counts["published"], counts["lost"], counts["dead_lettered"]) == (published, 0, 0), counts
    assert counts["delivered"] == published, counts


Cloner = Callable[..., Project]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Cloner]:
    """Make fresh clones whose containers, volumes and images are gone afterwards."""
    made: list[Project] = []

    def make(compose: Sequence[str] = COMPOSE_2) -> Project:
        made.append(Project(tmp_path / f"clone-{len(made)}", compose))
        return made[-1]

    yield make
    for project in made:
        project.remove()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A clone of somebody who is not root, after `up`; its publisher is done and the rest still runs.

    Its `.env` holds nothing but AWS credentials.
    """
    project = Project(tmp_path_factory.mktemp("shipped") / "clone", COMPOSE_2)
    try:
        project.write_env(f"AWS_ACCESS_KEY_ID=AKIA{SECRET}\nAWS_SECRET_ACCESS_KEY={SECRET}\n")
        subprocess.run(["chown", "-R", f"{PERSON}:{PERSON}", str(project.folder)], check=True)
        project.compose("up", "--detach", "--quiet-pull")
        project.wait_for_publisher()
        yield project
    finally:
        project.remove()


def test_up_in_a_fresh_clone_ships_everything(clone: Cloner) -> None:
    project = clone()
    assert not (project.folder / ".env").exists()
    with project.popen("up", "--exit-code-from", "publisher") as running:
        running.communicate(timeout=WAIT_SECONDS)
    summary = project.summary()
    all_shipped(summary, 10_000)
    assert summary["queue"] == "REDIS"
    assert running.returncode == (0 if summary["valid"] else 1), summary["reasons"]


def test_copying_env_example_changes_nothing(clone: Cloner) -> None:
    project = clone()
    before = {role: project.settings(role) for role in ("publisher", "worker", "endpoint")}
    shutil.copy(project.folder / ".env.example", project.folder / ".env")
    # MONITOR_PORT and FLOWER_PORT of the shell go before those of .env.
    assert {role: project.settings(role) for role in before} == before
    project.compose("up", "--exit-code-from", "publisher", exit_code=None)
    all_shipped(project.summary(), 10_000)


def test_queue_sqs_in_env_is_the_only_edit(clone: Cloner) -> None:
    project = clone()
    project.write_env("QUEUE=SQS\n")
    project.compose("up", "--exit-code-from", "publisher", exit_code=None)
    summary = project.summary()
    all_shipped(summary, 10_000)
    assert (summary["queue"], summary["local"]) == ("SQS", True)


@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
@pytest.mark.parametrize("compose", [COMPOSE_1, COMPOSE_2], ids=["compose-1", "compose-2"])
def test_up_exits_with_the_publishers_verdict(clone: Cloner, compose: Sequence[str], queue: str) -> None:
    project = clone(compose)
    project.write_env(f"QUEUE={queue}\n{LIGHT}")
    project.compose("up", "--exit-code-from", "publisher")
    summary = project.summary()
    all_shipped(summary, 300)
    assert summary["queue"] == queue


@pytest.mark.parametrize("compose", [COMPOSE_1, COMPOSE_2], ids=["compose-1", "compose-2"])
def test_urls_set_to_nothing_mean_aws_and_a_simulated_post(clone: Cloner, compose: Sequence[str]) -> None:
    project = clone(compose)
    project.write_env("QUEUE=SQS\nAWS_ENDPOINT_URL_SQS=\nPUSH_URL=\nWORKER_SLOTS=7\nAWS_REGION=eu-west-1\n")
    subscriber, worker = project.settings("subscriber"), project.settings("worker")
    assert (subscriber["QUEUE"], subscriber["AWS_ENDPOINT_URL_SQS"]) == ("SQS", "")
    assert (worker["PUSH_URL"], worker["WORKER_SLOTS"]) == ("", 7)
    assert (subscriber["AWS_REGION"], worker["AWS_REGION"]) == ("eu-west-1", "")


def test_every_role_scales(clone: Cloner) -> None:
    project = clone()
    project.write_env(LIGHT)
    scales = ("--scale", "subscriber=3", "--scale", "worker=2", "--scale", "publisher=2")
    project.compose("up", "--exit-code-from", "publisher", *scales)
    all_shipped(project.summary(), 600)
    started = {role: len(project.containers(role, running=False)) for role in ("subscriber", "worker")}
    assert started == {"subscriber": 3, "worker": 2}


def test_a_lost_message_fails_the_command(clone: Cloner) -> None:
    project = clone()
    project.write_env("MESSAGES=500\n")
    project.compose("up", "--detach", "--scale", "subscriber=0", "--scale", "publisher=0")
    with project.popen("up", "--scale", "subscriber=0", "--exit-code-from", "publisher") as running:
        until(lambda: waiting(project) == 500, "all are in the queue")
        assert docker("exec", *project.containers("redis"), "redis-cli", "LPOP", "phone_numbers").strip()
        project.compose("up", "--detach", "--no-deps", "--scale", "subscriber=1", "subscriber")
        output, _ = running.communicate(timeout=WAIT_SECONDS)
        assert running.returncode == 1, output[-3000:]
    counts = project.summary()["counts"]
    assert (counts["published"], counts["delivered"], counts["lost"]) == (500, 499, 1)


def waiting(project: Project) -> int:
    """Return how many messages are in the Redis list."""
    return int(docker("exec", *project.containers("redis"), "redis-cli", "LLEN", "phone_numbers"))


def test_stop_under_load_loses_nothing(clone: Cloner) -> None:
    project = under_load(clone)
    project.compose("stop")
    assert project.containers() == []
    assert project.delivered() < BURST
    project.compose("up", "--detach", "--scale", "publisher=0")
    all_shipped(project.wait_for_summary(), BURST)


@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
def test_down_and_up_under_load_goes_on_where_it_was(clone: Cloner, queue: str) -> None:
    project = under_load(clone, f"QUEUE={queue}\n")
    project.compose("down")
    assert project.containers(running=False) == []
    assert project.delivered() < BURST
    project.compose("up", "--detach", "--scale", "publisher=0")
    all_shipped(project.wait_for_summary(), BURST)


def test_restart_under_load_loses_nothing(clone: Cloner) -> None:
    project = under_load(clone)
    # All but the publisher, which would flood again.
    project.compose("restart", "redis", "broker", "sqs", "endpoint", "monitor", "subscriber", "worker")
    all_shipped(project.wait_for_summary(), BURST)


def test_scaling_up_and_down_under_load_loses_nothing_and_does_not_flood_again(clone: Cloner) -> None:
    project = under_load(clone)
    for subscribers, workers in ((3, 2), (1, 1)):
        assert project.delivered() < BURST
        for role, number in (("subscriber", subscribers), ("worker", workers)):
            project.compose("up", "--detach", "--no-deps", "--scale", f"{role}={number}", role)
            assert len(project.containers(role)) == number
    all_shipped(project.wait_for_summary(), BURST)


def test_others_take_over_from_killed_containers(clone: Cloner) -> None:
    project = under_load(clone, "", "--scale", "subscriber=3", "--scale", "worker=2")
    docker("kill", project.containers("subscriber")[0])
    docker("kill", project.containers("worker")[0])
    all_shipped(project.wait_for_summary(), BURST)
    assert (len(project.containers("subscriber")), len(project.containers("worker"))) == (2, 1)


@pytest.mark.parametrize("queue", ["REDIS", "SQS"])
def test_the_only_one_is_restarted_after_kill_9(clone: Cloner, queue: str) -> None:
    project = under_load(clone, f"QUEUE={queue}\n")
    roles = ("subscriber", "worker", "endpoint", "monitor", "sqs", "broker", "redis")
    killed = [container for role in roles for container in project.containers(role)]
    for container in killed:
        kill_9(container)
    assert project.delivered() < BURST
    all_shipped(project.wait_for_summary(), BURST)
    for container in killed:
        state = docker("inspect", "--format", "{{.RestartCount}} {{.State.Status}}", container).split()
        # One that came back before the server it needs said so, and was started once more.
        assert int(state[0]) in (1, 2) and state[1] == "running", (container, state)


def under_load(clone: Cloner, env: str = "", *scales: str) -> Project:
    """Return a project that is busy with a burst, all of which the queue has accepted."""
    project = clone()
    project.write_env(LOAD + env)
    project.compose("up", "--detach", *scales)
    until(
        lambda: f"accepted {BURST:,} of {BURST:,}" in project.compose("logs", "publisher"),
        "all are published",
    )
    project.wait_until_busy()
    return project


def kill_9(container: str) -> None:
    """Kill a container's own process from the host; where it has an init, the init's child."""
    pid = int(docker("inspect", "--format", "{{.State.Pid}}", container))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    with_init = docker("inspect", "--format", "{{.HostConfig.Init}}", container).strip() == "true"
    os.kill(int(children[0]) if with_init else pid, signal.SIGKILL)


def test_no_process_stays_root(shipped: Project) -> None:
    containers = shipped.containers()
    assert len(containers) == 7
    # A health check of the monitor begins as root, as its entrypoint does, and does not stay so.
    until(lambda: not any(map(root_processes, containers)), "no process is root")


def test_ports_are_published_on_127_0_0_1_alone(shipped: Project) -> None:
    hosts = set()
    for container in shipped.containers():
        ports = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", container))
        hosts |= {binding["HostIp"] for bindings in ports.values() for binding in bindings or []}
    assert hosts == {"127.0.0.1"}
    assert get(f"{shipped.page}/health")


def test_results_are_the_persons_own(shipped: Project) -> None:
    all_shipped(shipped.summary(), 10_000)
    [run] = (path.parent for path in shipped.results.glob("*/summary.json"))
    assert {path.stat().st_uid for path in (shipped.results, run, *run.iterdir())} == {PERSON}
    [monitor] = shipped.containers("monitor")
    assert docker("top", monitor, "-eo", "pid,uid").split()[-1] == str(PERSON)


def test_the_image_holds_no_env_no_history_and_no_tests(shipped: Project, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    container = docker("create", shipped.name).strip()
    try:
        docker("export", "--output", str(saved), container)
    finally:
        docker("rm", container)
    with tarfile.open(saved) as image:
        ours = {Path(name).parts[1] for name in image.getnames() if name.startswith("app/")}
    expected = {"docker", "publisher.py", "queuebench", "requirements.txt", "subscriber.py", "task.py"}
    assert ours - {"__pycache__"} == expected
    assert SECRET.encode() not in saved.read_bytes()
    assert SECRET not in docker("history", "--no-trunc", shipped.name) + docker("inspect", shipped.name)


def test_credentials_go_where_aws_is_called_and_into_no_log(shipped: Project) -> None:
    roles = ("redis", "broker", "sqs", "endpoint", "monitor", "subscriber", "worker", "publisher")
    told = {
        role
        for role in roles
        for container in shipped.containers(role, running=False)
        if SECRET in docker("inspect", "--format", "{{json .Config}}", container)
    }
    assert told == {"publisher", "subscriber", "monitor"}
    assert SECRET not in shipped.compose("logs")
    assert not any(SECRET in path.read_text() for path in shipped.results.glob("*/*.json*"))


def test_one_image_serves_all_of_our_services(shipped: Project) -> None:
    images = {docker("inspect", "--format", "{{.Image}}", each).strip() for each in shipped.containers()}
    assert len(images) == 2  # ours, and that of both Redis


def test_flower_answers_under_its_profile(shipped: Project) -> None:
    shipped.compose("--profile", "flower", "up", "--detach", "--no-deps", "flower")
    until(lambda: b"Flower" in get(f"{shipped.flower}/"), "Flower answers")
    [flower] = shipped.containers("flower")
    assert root_processes(flower) == []


def test_another_flood_ships_through_the_running_stack(shipped: Project) -> None:
    shipped.compose("run", "--rm", "publisher", "500", "--wait", exit_code=None)
    newest = max(shipped.results.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    all_shipped(json.loads(newest.read_text()), 500)
    # What the person may delete, the person does.
    as_person = ["setpriv", f"--reuid={PERSON}", f"--regid={PERSON}", "--clear-groups"]
    subprocess.run([*as_person, "rm", "-r", newest.parent.name], cwd=shipped.results, check=True)
    assert not newest.exists()


def test_the_report_compares_runs_in_the_monitors_container(shipped: Project) -> None:
    [run, *_] = (path.parent.name for path in shipped.results.glob("*/summary.json"))
    page = shipped.results / run / "comparison.html"
    output = shipped.compose(
        "run", "--rm", "monitor", "report", run, "--output", f"results/{run}/{page.name}", exit_code=None
    )
    assert run in output
    assert page.stat().st_uid == PERSON


def test_a_wrong_setting_is_one_clear_line(clone: Cloner) -> None:
    project = clone()
    project.write_env("QUEUE=KAFKA\n")
    project.compose("build")
    output = project.compose("run", "--rm", "--no-deps", "publisher", "10", exit_code=2)
    assert "KAFKA" in output
    assert "Traceback" not in output
