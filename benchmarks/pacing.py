"""How exactly a rate is kept, and how late messages are sent: the publisher, and locust beside it.

    python -m benchmarks.pacing [--rates 278,1000,5000,50000] [--seconds 10] [--repeats 3] [--table FILE]

Both send to the same Redis, in turn. Locust (benchmarks/requirements-load-tools.txt) is installed into an
environment of its own, a temporary one unless `--environment` names it. The rate is what arrived in the list;
lateness, sent − intended, is each sender's own word.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from queuebench.bench.stack import Stack, clean_environment

REQUIREMENTS = Path(__file__).with_name("requirements-load-tools.txt")
LOCUSTFILE = Path(__file__).with_name("locust_sender.py")
SENDS_A_USER = 50.0  # a second: so many users that none is busy all the time
MOST_USERS = 400


@dataclass(frozen=True)
class Kept:
    """How a sender kept to a rate."""

    share: float  # of the messages that were asked for
    p50_ms: float
    p99_ms: float
    cpu_us: float  # a message


def publisher(stack: Stack, rate: int, seconds: float, arrivals: str = "even") -> Kept:
    """Let a publisher keep to a rate."""
    environment = {**stack.environment, "MONITOR_URL": "", "RATE": str(rate), "DURATION": f"{seconds:g}"}
    environment |= {"ARRIVALS": arrivals}
    with closing(Redis.from_url(stack.environment["REDIS_PUBSUB_URL"])) as client:
        client.flushall()
        cpu = _children_seconds()
        argv = [sys.executable, "-c", _TIMED]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        cpu = _children_seconds() - cpu
        arrived: Any = client.llen("phone_numbers")
    told = json.loads(done.stdout.splitlines()[-1])
    return Kept(arrived / (rate * seconds), told["p50"], told["p99"], told["cpu"] / arrived * 1e6)


# The publisher as it is, with the quantiles that its line does not have, and without its start-up's CPU.
_TIMED = """
import json, time
from queuebench.measuring.records import Stage
from queuebench.pipeline import publisher
from queuebench import settings
ended = {}
class Publication(publisher.Publication):
    def _burst(self, *args):
        cpu = time.process_time()
        code = super()._burst(*args)
        ended["cpu"] = time.process_time() - cpu
        return code
    def _say(self, run, *args):
        late = self._telemetry.latency(run, Stage.PUBLISH_LATENESS)
        ended.update(p50=late.quantile(0.5), p99=late.quantile(0.99))
        super()._say(run, *args)
Publication(settings.load(), False).run()
print(json.dumps(ended))
"""


def locust(stack: Stack, rate: int, seconds: float, command: Path) -> Kept:
    """Let locust keep to a rate."""
    users = max(1, min(MOST_USERS, round(rate / SENDS_A_USER)))
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        environment = clean_environment() | {
            "RATE": str(rate),
            "USERS": str(users),
            "REDIS_PORT": str(stack.ports["redis"]),
            "TOLD": str(told),
        }
        argv = [str(command), "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--loglevel", "ERROR"]
        argv += [
            "-u",
            str(users),
            "-r",
            str(users),
            "--run-time",
            f"{round(seconds)}s",
            "--stop-timeout",
            "1",
        ]
        cpu = _children_seconds()
        subprocess.run(argv, env=environment, capture_output=True, check=False)
        cpu = _children_seconds() - cpu
        found = json.loads(told.read_text())
    asked = rate * found["seconds"]
    return Kept(
        found["sent"] / asked, found["p50"] * 1e3, found["p99"] * 1e3, cpu / max(1, found["sent"]) * 1e6
    )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def install(folder: Path) -> Path:
    """Install locust into an environment of its own, unless it is there; return its command."""
    command = folder / "bin" / "locust"
    if not command.exists():
        print(f"installing {', '.join(REQUIREMENTS.read_text().split())} into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "install", "-r", str(REQUIREMENTS)], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            sys.exit(f"locust could not be installed: {why}")
    return command


def _row(rate: int, name: str, found: Sequence[Kept]) -> str:
    share, p50, p99, cpu = (
        statistics.median(getattr(kept, field) for kept in found)
        for field in ("share", "p50_ms", "p99_ms", "cpu_us")
    )
    return f"| {rate:,}/s | {name} | {share - 1:+.2%} | {p50:,.2f} ms | {p99:,.2f} ms | {cpu:,.1f} µs |"


def main() -> int:
    """Measure; return 1 where the publisher was off by more than 0.5 % or later than 5 ms (p99)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--rates", default="278,1000,5000,50000", help="messages a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each side (%(default)s)")
    parser.add_argument("--environment", type=Path, help="where locust is, or is to be installed")
    parser.add_argument("--table", type=Path, help="a Markdown file to write the table to")
    options = parser.parse_args()
    os.environ.update(clean_environment())
    lines = ["| asked | by | rate off by | lateness p50 | p99 | CPU a message |", "|--:|---|--:|--:|--:|--:|"]
    missed = False
    with tempfile.TemporaryDirectory(prefix="benchmarks-pacing-") as folder:
        command = install(options.environment or Path(folder) / "locust")
        with closing(Stack(Path(folder) / "stack", "REDIS")) as stack:
            stack.add_redis("redis").start()
            for rate in map(int, options.rates.split(",")):
                sides: dict[str, list[Kept]] = {"publisher": [], "publisher, Poisson": [], "locust": []}
                for _ in range(options.repeats):
                    sides["publisher"].append(publisher(stack, rate, options.seconds))
                    sides["publisher, Poisson"].append(publisher(stack, rate, options.seconds, "poisson"))
                    sides["locust"].append(locust(stack, rate, options.seconds, command))
                for name, found in sides.items():
                    lines.append(_row(rate, name, found))
                    print(lines[-1], flush=True)
                ours = sides["publisher"]
                missed |= abs(statistics.median(kept.share for kept in ours) - 1.0) > 0.005
                missed |= statistics.median(kept.p99_ms for kept in ours) > 5.0
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines += [
        "",
        f"`python -m benchmarks.pacing`: medians of {options.repeats}, {options.seconds:g} s each, the sides "
        f"taking turns; {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load at the end {load}. "
        "Poisson arrivals vary by chance, by 1 ÷ √messages.",
    ]
    if options.table is not None:
        options.table.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
