"""One run: who joined it, what each process reported, and when it is over. Knows no server and no clock.

The record is plain data, kept on disk as it is, and all that the summary is made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from queuebench.measuring.ranges import Ranges

GONE_SECONDS = 10.0  # a process that did not report for so long is taken for dead
EMPTY_SECONDS = 10.0  # nothing moves and nothing is left: the rest is lost
RECORD_FORMAT = 2  # grows when a record of before can no longer be gone on with
STUCK_SECONDS = 300.0  # nothing moves: not finished


class Run:
    """The record of a run, and the rules that open and close it."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    @classmethod
    def open(
        cls,
        run_id: str,
        now: float,
        settings: dict[str, Any],
        versions: dict[str, str],
        queue: str,
        label: str,
        backlog: dict[str, int],
        processes: Mapping[str, dict[str, Any]],
    ) -> Run:
        """Begin a run.

        Args:
            run_id: its id.
            now: Unix seconds.
            settings: those of the publisher that opened it.
            versions: of what takes part, by name.
            queue: the name that `QUEUE` has.
            label: the queue as reports must name it.
            backlog: what waited before, by place.
            processes: the newest report of each process that is alive; what they cost until now is
                not the run's.
        """
        return cls(
            {
                "format": RECORD_FORMAT,
                "run_id": run_id,
                "queue": queue,
                "label": label,
                "local": label == "local SQS",
                "started_at": now,
                "ended_at": None,
                "ended": None,
                "moved_at": now,
                "moved": None,
                "ending_since": None,
                "settings": settings,
                "versions": versions,
                "backlog_before": backlog,
                "publishers": {},
                "processes": {process: _known(report, now, report) for process, report in processes.items()},
                "tally": {"proven": None, "distinct": 0, "duplicates": 0, "arrived": [], "missing": []},
                "dead_letters": {"count": 0, "numbers": []},
                "servers": {},
                "peaks": {"queue": 0, "celery": 0},
                "measuring_requests": {},
            }
        )

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.record["run_id"])

    @property
    def is_open(self) -> bool:
        """Whether it is not over yet."""
        return self.record["ended_at"] is None

    def join(self, process: str, burst: int, messages: int, now: float) -> int:
        """Let a publisher in and return the first of its numbers; the same one however often it asks."""
        publishers = self.record["publishers"]
        key = f"{process}/{burst}"
        if key not in publishers:
            first = max((other["first"] + other["messages"] for other in publishers.values()), default=0)
            publishers[key] = {
                "process": process,
                "first": first,
                "messages": messages,
                "left": False,
                "accepted": [],
                "seen_at": now,
            }
            self.record["ending_since"] = None
        return int(publishers[key]["first"])

    def leave(self, process: str, burst: int, accepted: list[list[int]]) -> None:
        """Note that a publisher has ended, and what the queue accepted from it."""
        publisher = self.record["publishers"].get(f"{process}/{burst}")
        if publisher is not None:
            publisher["left"], publisher["accepted"] = True, accepted

    def report(self, report: Mapping[str, Any], now: float) -> None:
        """Take the newest totals of a process."""
        processes = self.record["processes"]
        process = processes.get(report["process"])
        if process is None:
            # What it cost before it began is its start-up, and that of an earlier run is not this one's.
            new = report["started_at"] >= self.record["started_at"]
            unspent = {"cpu_seconds": report["startup_cpu_seconds"], "requests": {}, "unassigned": {}}
            process = _known(report, now, {**report, **(unspent if new else {})})
            processes[report["process"]] = process
        before, process["latest"] = process["latest"], _usage(report, now)
        process["slots"], process["ended"] = report["slots"], report["ended"]
        process["clock"] = report["clock"]
        totals = report["runs"].get(self.id)
        moved = totals is not None and totals["counts"] != process["totals"]["counts"]
        _extend_busy(process, before, moved)
        if totals is not None:
            process["totals"] = totals
        for publisher in self.record["publishers"].values():
            if publisher["process"] == report["process"]:
                publisher["seen_at"] = now

    def accepted(self) -> Ranges:
        """Return the numbers that the queue is known to have accepted."""
        record = self.record
        told = [publisher["accepted"] for publisher in record["publishers"].values()]
        told += [process["totals"]["accepted"] for process in record["processes"].values()]
        return Ranges(sorted(chain.from_iterable(told)))

    def count(self, name: str) -> int:
        """Return one of the counts, over all processes."""
        return sum(process["totals"]["counts"].get(name, 0) for process in self.record["processes"].values())

    def delivered(self) -> int:
        """Return how many have arrived, as far as anybody knows."""
        tally = self.record["tally"]
        return int(tally["distinct"]) if tally["proven"] else self.count("pushed")

    def publishers_ended(self, now: float) -> bool:
        """Tell whether every publisher has left or is dead."""
        return all(p["left"] or now - p["seen_at"] > GONE_SECONDS for p in self.record["publishers"].values())

    def a_publisher_died(self) -> bool:
        """Tell whether one ended without saying what was accepted."""
        return not all(publisher["left"] for publisher in self.record["publishers"].values())

    def missing(self) -> Ranges:
        """Return the accepted numbers that have neither arrived nor become a dead letter."""
        record = self.record
        arrived = Ranges(record["tally"]["arrived"]) | Ranges(record["dead_letters"]["numbers"])
        return self.accepted() - arrived

    def looks_complete(self, now: float) -> bool:
        """Tell, by counts alone, whether it is worth a look at the sets."""
        if not self.publishers_ended(now):
            return False
        dead: int = self.record["dead_letters"]["count"]
        return self.delivered() + dead >= len(self.accepted())

    def judge(self, now: float, empty: bool | None) -> str | None:
        """Return how the run ended, or None while it goes on.

        Args:
            now: Unix seconds.
            empty: whether queue, in-flight and Celery hold nothing; None: not known.
        """
        record = self.record
        moved = [
            self.count("published"),
            self.count("received"),
            self.count("pushed"),
            self.count("retried"),
            record["tally"]["distinct"],
            record["tally"]["duplicates"],
            record["dead_letters"]["count"],
        ]
        if moved != record["moved"]:
            record["moved"], record["moved_at"] = moved, now
        still = now - record["moved_at"]
        arrived = self.looks_complete(now) and (not record["tally"]["proven"] or not self.missing())
        # What a dead publisher had sent without an answer may still be on its way.
        if arrived and (empty or not self.a_publisher_died()):
            return "complete"
        if self.publishers_ended(now) and empty and still >= EMPTY_SECONDS:
            return "lost"
        if still >= STUCK_SECONDS:
            return "not finished"
        return None

    def close(self, now: float, how: str) -> None:
        """End the run."""
        record = self.record
        record["ended_at"], record["ended"] = now, how
        for process in record["processes"].values():
            process["gone"] = not process["ended"] and now - process["latest"]["at"] > GONE_SECONDS
        record["tally"]["missing"] = self.missing().to_json() if record["tally"]["proven"] else []


def _known(report: Mapping[str, Any], now: float, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a process; `before` is how it stood when its part in the run began."""
    baseline = _usage(before, now)
    return {
        "role": report["role"],
        "host": report["host"],
        "slots": report["slots"],
        "cores": report["cores"],
        "ended": report["ended"],
        "clock": report["clock"],
        "startup_cpu_seconds": report["startup_cpu_seconds"],
        "baseline": baseline,
        "latest": baseline,
        "busy": {"seconds": 0.0, "cpu_seconds": 0.0, "machine_cpu_seconds": 0.0},
        "pending": None,
        "totals": {"counts": {}, "latencies": {}, "active": {}, "accepted": []},
    }


def _usage(report: Mapping[str, Any], now: float) -> dict[str, Any]:
    return {
        "at": now,
        "now": report["now"],
        "cpu_seconds": report["cpu_seconds"],
        "machine_cpu_seconds": report["machine_cpu_seconds"],
        "max_rss_mib": report["max_rss_mib"],
        "requests": dict(report["requests"]),
        "unassigned": dict(report["unassigned"]),
    }


def _extend_busy(process: dict[str, Any], before: Mapping[str, Any], moved: bool) -> None:
    """Add the time since the last report to the busy time, where the process worked all through it.

    The first and the last interval of a spell of work are partly idle, so each one is kept back
    until it is known that work goes on, and the first is dropped.
    """
    if not moved:
        process["pending"] = None
        return
    if process["pending"] is None:
        process["pending"] = {}
        return
    for name, value in process["pending"].items():
        process["busy"][name] += value
    latest = process["latest"]
    machine, machine_before = latest["machine_cpu_seconds"], before["machine_cpu_seconds"]
    process["pending"] = {
        "seconds": latest["now"] - before["now"],
        "cpu_seconds": latest["cpu_seconds"] - before["cpu_seconds"],
        "machine_cpu_seconds": 0.0 if machine is None or machine_before is None else machine - machine_before,
    }
