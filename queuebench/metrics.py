"""Arithmetic on a run's record: knows no server and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from queuebench.histogram import Histogram
from queuebench.ranges import Ranges

# The stages, and where their latencies are recorded under another name.
LATENCIES = ("publish", "queue_wait", "hand_over", "celery_wait", "push", "end_to_end")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def summarise(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's summary, as `summary.json` keeps it."""
    processes = list(record["processes"].values())
    accepted = Ranges()
    for part in [*record["publishers"].values(), *(process["totals"] for process in processes)]:
        accepted |= Ranges(part["accepted"])
    tally = record["tally"]
    proven = bool(tally["proven"])
    pushed = _count(processes, "pushed")
    dead = record["dead_letters"]["count"]
    delivered = tally["distinct"] if proven else min(pushed, len(accepted))
    if proven:
        lost = len(Ranges(tally["missing"]))
        unconfirmed = len(Ranges(tally["arrived"]) - accepted)
    else:
        lost, unconfirmed = max(0, len(accepted) - pushed - dead), 0
    counts = {
        "published": len(accepted),
        "unconfirmed": unconfirmed,
        "received": _count(processes, "received"),
        "handed_over": _count(processes, "handed_over"),
        "pushed": pushed,
        "delivered": delivered,
        "lost": lost,
        "duplicated": tally["duplicates"] if proven else max(0, pushed - len(accepted)),
        "dead_lettered": dead,
    }
    active = {
        stage: _active(processes, stage) for stage in ("publish", "queue_wait", "hand_over", "push", "answer")
    }
    ends = active["answer"] or active["push"]
    seconds = {
        "publish": _length(active["publish"]),
        "drain": active["queue_wait"][-1][1] - active["queue_wait"][0][0] if active["queue_wait"] else 0.0,
        "total": max(0.0, ends[-1][1] - active["publish"][0][0]) if ends and active["publish"] else 0.0,
    }
    rates = {
        "publish": _rate(counts["published"], active["publish"]),
        "receive": _rate(counts["received"], active["queue_wait"]),
        "hand_over": _rate(counts["handed_over"], active["hand_over"]),
        "push": _rate(pushed, active["push"]),
    }
    requested = sum(publisher["messages"] for publisher in record["publishers"].values())
    reasons = []
    if len(accepted) < requested:
        reasons.append(f"{requested - len(accepted):,} of {requested:,} messages were not accepted")
    if record["ended"] == "not finished":
        reasons.append("the run did not finish: nothing moved for 5 minutes")
    return {
        "run_id": record["run_id"],
        "queue": record["queue"],
        "local": record["local"],
        "messages": requested,
        "started_at": record["started_at"],
        "settings": record["settings"],
        "versions": record["versions"],
        "counts": counts,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "rates": {name: round(value, 1) for name, value in rates.items()},
        "latency_ms": {stage: _latency(processes, stage) for stage in LATENCIES},
        "resources": _resources(processes, counts["delivered"]),
        "valid": not reasons,
        "reasons": reasons,
        "warnings": [] if proven else ["delivery is not proven: the endpoint is not ours"],
    }


def _count(processes: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(process["totals"]["counts"].get(name, 0) for process in processes)


def _active(processes: Iterable[Mapping[str, Any]], stage: str) -> list[list[float]]:
    """Return when any process was active in a stage: sorted, disjoint intervals of Unix seconds."""
    merged: list[list[float]] = []
    for start, end in sorted(i for process in processes for i in process["totals"]["active"].get(stage, [])):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def _length(intervals: Iterable[Iterable[float]]) -> float:
    return sum(end - start for start, end in intervals)


def _rate(count: int, intervals: list[list[float]]) -> float:
    seconds = _length(intervals)
    return count / seconds if seconds > 0 else 0.0


def _latency(processes: Iterable[Mapping[str, Any]], stage: str) -> dict[str, float]:
    merged = Histogram()
    for process in processes:
        if stage in process["totals"]["latencies"]:
            merged.merge(Histogram.from_json(process["totals"]["latencies"][stage]))
    quantiles = {name: round(merged.quantile(share), 3) for name, share in QUANTILES.items()}
    return {"count": merged.count, **quantiles, "max": round(merged.max_ms, 3)}


def _resources(processes: Iterable[Mapping[str, Any]], messages: int) -> dict[str, Any]:
    roles: dict[str, dict[str, float]] = {}
    for process in processes:
        role = roles.setdefault(process["role"], {"processes": 0, "cpu_seconds": 0.0, "max_rss_mib": 0.0})
        role["processes"] += 1
        role["cpu_seconds"] += process["latest"]["cpu_seconds"] - process["baseline"]["cpu_seconds"]
        role["max_rss_mib"] = max(role["max_rss_mib"], process["latest"]["max_rss_mib"])
    return {
        name: {
            "processes": role["processes"],
            "cpu_seconds": round(role["cpu_seconds"], 3),
            "cpu_us_per_message": round(role["cpu_seconds"] * 1e6 / messages, 1) if messages else 0.0,
            "max_rss_mib": round(role["max_rss_mib"], 1),
        }
        for name, role in sorted(roles.items())
    }
