"""Records of runs, written by hand as plain data; `typed` makes of them what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from queuebench.figures.records import Summary
from queuebench.figures.summary import summarise
from queuebench.measuring.histogram import Histogram
from queuebench.measuring.records import FORMAT, RunRecord
from queuebench.report import words
from queuebench.settings import load

START = 1_000_000.0


def totals(
    counts: Mapping[str, int] | None = None,
    latencies: Mapping[str, Sequence[float]] | None = None,
    active: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    accepted: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Return what a process says of a run; latencies in seconds, active times from the run's start."""
    histograms = {}
    for stage, values in (latencies or {}).items():
        histograms[stage] = Histogram()
        for value in values:
            histograms[stage].record(value)
    return {
        "counts": dict(counts or {}),
        "latencies": {
            stage: msgspec.to_builtins(histogram.frozen()) for stage, histogram in histograms.items()
        },
        "active": {
            stage: [[START + start, START + end] for start, end in intervals]
            for stage, intervals in (active or {}).items()
        },
        "accepted": [list(pair) for pair in accepted],
    }


def process(role: str, *, cpu: float = 0.0, requests: Mapping[str, int] | None = None, **more: Any) -> Any:
    """Return a process that used so many CPU seconds for the run, after 3 s for starting."""
    usage = {"at": START, "now": START, "machine_cpu_seconds": 0.0, "max_rss_mib": 40.0, "unassigned": {}}
    return {
        "role": role,
        "host": "host",
        "slots": 0,
        "cores": 2,
        "ended": False,
        "clock": {"offset_seconds": 0.0, "within_seconds": 0.001},
        "startup_cpu_seconds": 3.0,
        "baseline": {**usage, "cpu_seconds": 3.0, "requests": {}},
        "latest": {**usage, "cpu_seconds": 3.0 + cpu, "requests": dict(requests or {})},
        "busy": {"seconds": 0.0, "cpu_seconds": 0.0, "machine_cpu_seconds": 0.0},
        "pending": None,
        "totals": totals(),
        **more,
    }


def record(
    processes: Sequence[Any] = (),
    *,
    messages: int = 0,
    arrived: Sequence[tuple[int, int]] = (),
    settings: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the record of a run that is over, of one publisher."""
    chosen = load({"PUSH_URL": "http://127.0.0.1:1/push", **(settings or {})})
    accepted = [pair for each in processes for pair in each["totals"]["accepted"]]
    distinct = sum(last - first + 1 for first, last in arrived)
    return {
        "format": FORMAT,
        "run_id": "20261123-150000-redis-0001",
        "queue": chosen.queue,
        "label": chosen.queue_label,
        "local": chosen.queue_label == "local SQS",
        "started_at": START,
        "moved_at": START,
        "ended_at": START + 60,
        "ended": "complete",
        "settings": chosen.public(),
        "versions": {"python": "3.11"},
        "backlog_before": {"queue": 0, "celery": 0},
        "publishers": {
            "p/0": {"process": "p", "first": 0, "messages": messages, "left": True, "accepted": accepted}
        },
        "processes": {str(number): each for number, each in enumerate(processes)},
        "tally": {
            "proven": True,
            "distinct": distinct,
            "duplicates": 0,
            "arrived": [list(pair) for pair in arrived],
            "missing": [],
        },
        "dead_letters": {"count": 0, "numbers": []},
        "servers": {},
        "peaks": {"queue": 0, "celery": 0},
        "measuring_requests": {},
        **more,
    }


def shipped(
    messages: int = 10_000,
    *,
    slots: int = 200,
    push_seconds: float = 1.0,
    worker_cpu: float = 10.0,
    subscriber_cpu: float = 0.5,
    celery_wait: float = 20.0,
    queue_wait: float = 0.1,
    publish_seconds: float = 0.2,
    busy: Mapping[str, Mapping[str, float]] | None = None,
    subscriber: Mapping[str, Any] | None = None,
    publisher: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the record of a whole run of so many messages, with one process of each role."""
    last = messages - 1
    drain = messages * push_seconds / slots
    roles = busy or {}
    idle = {"seconds": 0.0, "cpu_seconds": 0.0, "machine_cpu_seconds": 0.0}
    processes = [
        process(
            "publisher",
            cpu=0.1,
            totals=totals(
                {"published": messages},
                {"publish": [publish_seconds] * messages},
                {"publish": [(0.0, publish_seconds)]},
                [(0, last)],
            ),
            **(publisher or {}),
        ),
        process(
            "subscriber",
            cpu=subscriber_cpu,
            busy={**idle, **roles.get("subscriber", {})},
            totals=totals(
                {"received": messages, "handed_over": messages},
                {"queue_wait": [queue_wait] * messages, "hand_over": [0.05] * messages},
                {"queue_wait": [(0.0, 2 * queue_wait)], "hand_over": [(0.1, 0.2 + 2 * queue_wait)]},
            ),
            **(subscriber or {}),
        ),
        process(
            "worker",
            cpu=worker_cpu,
            slots=slots,
            busy={**idle, **roles.get("worker", {})},
            totals=totals(
                {"pushed": messages},
                {"celery_wait": [celery_wait] * messages, "push": [push_seconds] * messages},
                {"push": [(1.0, 1.0 + drain)]},
            ),
        ),
        process(
            "endpoint",
            cpu=1.0,
            busy={**idle, **roles.get("endpoint", {})},
            totals=totals(
                {"arrived": messages},
                {"answer": [push_seconds] * messages, "end_to_end": [celery_wait + push_seconds] * messages},
                {"answer": [(1.0, 1.0 + drain)]},
            ),
        ),
    ]
    return record(processes, messages=messages, arrived=[(0, last)], **more)


def typed(run: Mapping[str, Any]) -> RunRecord:
    """Return a record as the type that it is, checked."""
    return msgspec.convert(run, RunRecord)


def summary_of(run: Mapping[str, Any]) -> Summary:
    """Return the summary of a record."""
    return summarise(typed(run))


def written(run: Mapping[str, Any]) -> Any:
    """Return what a record's summary.json holds."""
    return words.written(summary_of(run))
