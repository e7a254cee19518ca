"""What the stages share: servers, CPU time of processes, alternating runs, rows of the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from queuebench.bench.stack import Service, Stack

# Of a core: what is left is what a process that waits for servers on two cores does not get.
FULL_CORE = 0.75
# The Linux kernel's number for a process's clock of the time it was scheduled: posix-timers.h.
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    stage: str
    baseline: str
    ours: str
    theirs: str
    result: str
    target: str
    reached: bool | None  # None: it could not be measured here


@dataclass(frozen=True)
class Sample:
    """One measurement of one side."""

    messages: int
    seconds: float
    cpu_seconds: float  # of the process that is measured, servers apart

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a message."""
        return 1e6 * self.cpu_seconds / self.messages

    @property
    def per_cpu_second(self) -> float:
        """Messages a second of CPU."""
        return self.messages / self.cpu_seconds


class Bench:
    """Where the stages run: a folder of their own, how often each side is measured, and at what size."""

    def __init__(self, folder: Path, repeats: int, scale: float) -> None:
        self.folder, self.repeats, self.scale = folder, repeats, scale
        self._stacks = 0

    def sized(self, messages: int) -> int:
        """Return a number of messages at the size that was asked for."""
        return max(1000, round(messages * self.scale / 1000) * 1000)

    def stack(self, queue: str, settings: Mapping[str, str], sqs_options: str = "") -> Stack:
        """Return a stack of which each stage starts what it needs; used as `with closing(...)`."""
        self._stacks += 1
        folder = self.folder / f"stack-{self._stacks}"
        return Stack(folder, queue, settings=settings, sqs_options=sqs_options.split())

    def alternate(self, sides: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
        """Measure every side in turn, as often as was asked for."""
        samples: dict[str, list[Sample]] = {name: [] for name in sides}
        for _ in range(self.repeats):
            for name, measure in sides.items():
                sample = measure()
                samples[name].append(sample)
                print(f"  {name:44} {sample.rate:11,.0f}/s  {sample.cpu_us:9,.1f} µs of CPU each", flush=True)
        return samples


def median(samples: list[Sample], what: Callable[[Sample], float]) -> float:
    """Return the median of something over all samples."""
    return statistics.median(map(what, samples))


def timed(messages: int, work: Callable[[], object]) -> Sample:
    """Measure work that this process does."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return Sample(messages, time.perf_counter() - clock, time.process_time() - cpu)


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time of a process so far, of threads that have ended too: clock_getcpuclockid(3).

    /proc counts in ticks of 10 ms, which is a tenth of what some stages are compared by.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def cpu_seconds(service: Service) -> float:
    """Return the user and system time of a service so far."""
    assert service.process is not None
    return cpu_seconds_of(service.process.pid)


def rss_mib(service: Service) -> float:
    """Return the resident memory of a process now."""
    assert service.process is not None
    return rss_mib_of(service.process.pid)


def rss_mib_of(pid: int) -> float:
    """Return the resident memory of a process now: proc_pid_status(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def fill(client: Redis, key: str, bodies: list[bytes], push: str = "RPUSH") -> None:
    """Make a list appear at once, so that its consumer starts at its first message and finds all of them."""
    for first in range(0, len(bodies), 500):
        client.execute_command(push, f"{key}:made", *bodies[first : first + 500])  # type: ignore[no-untyped-call]
    client.rename(f"{key}:made", key)


def until(done: Callable[[], bool], every_seconds: float = 0.01, patience_seconds: float = 300.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it was not in time.
    """
    give_up_at = time.monotonic() + patience_seconds
    while not done():
        if time.monotonic() > give_up_at:
            raise TimeoutError("a stage did not get done")
        time.sleep(every_seconds)


def times(ours: float, theirs: float, target: float) -> tuple[str, bool]:
    """Return how many times as much, and whether that is enough."""
    return f"{ours / theirs:.1f} ×", ours / theirs >= target


def share(ours: float, theirs: float) -> str:
    """Return a share in percent."""
    return f"{ours / theirs:.0%}"
