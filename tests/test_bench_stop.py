"""`make bench` leaves nothing behind, whenever it is stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow

MARK = "QUEUEBENCH_TEST_MARK"


def marked(mark: str) -> list[str]:
    """Return the command lines of the processes that inherited a mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found through /proc")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "REDIS: starting"),
        (signal.SIGINT, "accepted"),
        (signal.SIGTERM, "accepted"),
        (signal.SIGINT, r"lost\s+0"),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else re.sub(r"\W+", "-", value),
)
def test_a_stopped_bench_leaves_no_process_and_no_file_outside_the_project(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    mark, home = uuid.uuid4().hex, tmp_path / "home"
    home.mkdir()
    working = tmp_path / "working"
    working.mkdir()
    argv = [sys.executable, "-m", "queuebench", "bench", "--queue", "REDIS", "--messages", "1500"]
    argv += ["--set", "PUSH_SECONDS=0.5"]
    environment = os.environ | {MARK: mark, "HOME": str(home), "TMPDIR": str(home)}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        argv,
        cwd=working,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as bench:
        assert bench.stdout is not None
        said = ""
        for line in bench.stdout:
            said += line
            if re.search(moment, line):
                break
        # Ctrl-C reaches the whole group of the terminal, and is pressed again; SIGTERM reaches one process.
        if number is signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bench.pid, number)
                time.sleep(0.3)
                os.killpg(bench.pid, number)
        else:
            bench.send_signal(number)
        said += bench.stdout.read()
        code = bench.wait(timeout=60)
    assert marked(mark) == []
    assert list(home.iterdir()) == []
    assert set(working.iterdir()) <= {working / "results"}
    assert "Traceback" not in said, said
    assert code == 130 or (code == 0 and "lost" in moment), said
