"""What the endpoint answered is in its log, whatever the disk does; what it can't keep has not arrived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from queuebench.bench.stack import Service, clean_environment, free_port
from tests import ROOT


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/dev/full"),
        lambda path: path.parent.rmdir() or path.parent.write_text("a file"),
    ],
    ids=["folder", "pipe", "device", "file for a folder"],
)
def test_a_log_that_cannot_be_kept_is_refused_in_one_line(tmp_path: Path, put: Callable[[Path], Any]) -> None:
    log = tmp_path / "below" / "log"
    log.parent.mkdir()
    put(log)
    argv = [sys.executable, "-m", "queuebench", "endpoint", "--port", "0", "--log", str(log)]
    done = subprocess.run(argv, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "the log cannot be kept in" in done.stderr


@pytest.mark.slow
def test_on_a_full_disk_a_shipment_waits_and_what_was_answered_is_in_the_log(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "ids"
    serve = [sys.executable, "-m", "queuebench", "endpoint", "--port", str(port), "--log", str(log)]
    # Files may grow to 10 blocks of 512 bytes.
    limited = ["sh", "-c", 'ulimit -f 10; exec "$@"', "sh", *serve]
    service = Service(
        "endpoint", limited, clean_environment() | {"PUSH_SECONDS": "0"}, tmp_path / "out", "listens on http"
    )
    try:
        service.start()
        url = f"http://127.0.0.1:{port}"
        with requests.Session() as session:
            answers = {
                number: session.post(
                    url, data=b"{}", headers={"Idempotency-Key": f"{'x' * 190}-{number}"}, timeout=30
                ).status_code
                for number in range(40)
            }
            kept = [number for number, status in answers.items() if status == 200]
            assert set(answers.values()) == {200, 503} and kept == list(range(len(kept)))
            tally = session.get(f"{url}/tally", params={"run": "x" * 190}, timeout=30).json()
            assert tally["distinct"] == len(kept)
        assert service.output().count("can't be written") == 1
        assert log.read_bytes().endswith(b"\n")
        service.stop()
        service.argv = serve
        service.start()
        tally = requests.get(f"{url}/tally", params={"run": "x" * 190}, timeout=30).json()
        assert tally["distinct"] == len(kept)
    finally:
        service.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_stop_as_it_begins_to_listen_stops(number: int, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "queuebench", "endpoint", "--port", "0", "--log", str(tmp_path / "log")]
    services = [
        subprocess.Popen(argv, env=clean_environment(), cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for service in services:
        assert service.stdout is not None
        service.stdout.readline()
        service.send_signal(number)
    try:
        assert [service.wait(60) for service in services] == [0] * 4
    finally:
        for service in services:
            service.kill()
            service.communicate()
