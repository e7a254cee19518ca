"""Who is reached through the environment's proxy, and that what is the project's own never is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queuebench.plumbing.proxies import is_own, proxy_of
from tests import ROOT

pytestmark = pytest.mark.slow

PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.8.8",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "endpoint",
        "sqs",
        "api.localhost",
        "host.docker.internal",
    ],
)
def test_this_machine_and_its_neighbours_are_reached_directly(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    for scheme in ("http", "https"):
        assert is_own(f"{scheme}://user:word@{host}:8000/push?x=1")
        assert proxy_of(f"{scheme}://{host}:8000/push") is None


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "[2001:db8::1]", "endpoint.example.com"])
def test_what_is_foreign_goes_through_the_proxy_unless_no_proxy_names_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    assert proxy_of(f"http://{host}/push") == PROXY
    assert proxy_of(f"https://{host}/push") is None
    monkeypatch.setenv("no_proxy", f"other.org,{host.strip('[]')}")
    assert proxy_of(f"http://{host}/push") is None
    monkeypatch.delenv("http_proxy")
    monkeypatch.setenv("no_proxy", "")
    assert proxy_of(f"http://{host}/push") is None


def test_the_whole_pipeline_runs_where_the_environment_has_a_proxy_that_nobody_can_reach(
    tmp_path: Path,
) -> None:
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment = {**os.environ, **dict.fromkeys(names, PROXY)}
    argv = [
        sys.executable,
        "-m",
        "queuebench",
        "bench",
        "--flood",
        "--messages",
        "50",
        "--results",
        str(tmp_path),
    ]
    argv += ["--set", "PUSH_SECONDS=0.1", "--set", "WORKER_SLOTS=50"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    runs = list(tmp_path.glob("*/summary.json"))
    assert len(runs) == 2, done.stdout + done.stderr
    assert all('"delivered":50' in run.read_text().replace(" ", "") for run in runs)
