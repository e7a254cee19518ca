"""Arithmetic on a run's record, which becomes its summary: knows no server and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from queuebench.figures import cost, planner
from queuebench.measuring.histogram import Histogram
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.records import Latencies

LATENCIES = ("publish", "queue_wait", "hand_over", "celery_wait", "push", "end_to_end", "answer")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
# Which count tells how many messages a role dealt with.
WORK = {"publisher": "published", "subscriber": "received", "worker": "pushed", "endpoint": "arrived"}
# Which active time is a role's.
ACTIVE = {"publisher": "publish", "subscriber": "queue_wait", "worker": "push", "endpoint": "answer"}

# How much later than `PUSH_SECONDS` the endpoint may answer: the larger of a share of it and a time.
LATE_SHARE, LATE_SECONDS = 0.1, 0.1
# Clocks further apart than this make latencies between processes worthless.
CLOCKS_SECONDS = 0.1
PUBLISHER_FULL = 0.9
# Of which a capacity per process can be told with some confidence.
FEW_MESSAGES = 1000

Processes = Sequence[Mapping[str, Any]]


def summarise(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's summary, as `summary.json` keeps it; that of an open run is how it stands."""
    processes: Processes = list(record["processes"].values())
    settings = record["settings"]
    counts = _counts(record, processes)
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
        "push": _rate(counts["pushed"], active["push"]),
    }
    histograms = {stage: _merged(processes, stage) for stage in LATENCIES}
    summary: dict[str, Any] = {
        "run_id": record["run_id"],
        "queue": record["queue"],
        "label": record["label"],
        "local": record["local"],
        "messages": sum(publisher["messages"] for publisher in record["publishers"].values()),
        "started_at": record["started_at"],
        "ended_at": record["ended_at"],
        "ended": record["ended"],
        "settings": settings,
        "versions": record["versions"],
        "counts": counts,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "rates": {name: round(value, 1) for name, value in rates.items()},
        "latency_ms": {stage: _latency(histogram) for stage, histogram in histograms.items()},
        "distribution": {stage: histogram.coarse() for stage, histogram in histograms.items()},
        "resources": _resources(processes),
        "machine": _machine(processes),
        "servers": {name: _server(server) for name, server in sorted(record["servers"].items())},
        "peaks": record["peaks"],
        "sqs": _sqs(processes, record["measuring_requests"]) if record["queue"] == "SQS" else None,
        "slots": _slots(processes),
        "slots_share": round(_slots_share(processes, histograms["push"], active["push"]), 4),
        "held_back_seconds": round(_spent(processes, "unassigned", "held_back_ms") / 1000.0, 3),
        "clocks_apart_seconds": round(_clocks_apart(processes), 4),
        "endpoint": {
            **_endpoint(settings, histograms["answer"]),
            "refused": _spent(processes, "unassigned", "refused"),
        },
    }
    summary["capacity"] = planner.per_process(summary)
    summary["cost"] = cost.of_run(
        record["queue"],
        settings,
        counts["published"],
        len(_of_role(processes, "subscriber")),
        _billable(summary["sqs"]),
        summary["capacity"].get("worker", {}).get("per_second", 0.0),
    )
    summary["bottleneck"] = planner.bottleneck(summary)
    summary["how_many"] = planner.how_many(summary)
    summary["reasons"] = _reasons(summary)
    summary["warnings"] = _warnings(record, summary)
    summary["valid"] = not summary["reasons"]
    return summary


def _counts(record: Mapping[str, Any], processes: Processes) -> dict[str, int]:
    accepted = Ranges()
    for part in [*record["publishers"].values(), *(process["totals"] for process in processes)]:
        accepted |= Ranges(part["accepted"])
    tally, dead = record["tally"], record["dead_letters"]["count"]
    proven, pushed = bool(tally["proven"]), _count(processes, "pushed")
    if not proven:
        lost, unconfirmed = max(0, len(accepted) - pushed - dead), 0
    elif record["ended"] is None:
        lost = unconfirmed = 0
    else:
        lost = len(Ranges(tally["missing"]))
        unconfirmed = len(Ranges(tally["arrived"]) - accepted)
    return {
        "published": len(accepted),
        "unconfirmed": unconfirmed,
        "received": _count(processes, "received"),
        "handed_over": _count(processes, "handed_over"),
        "pushed": pushed,
        "delivered": tally["distinct"] if proven else min(pushed, len(accepted)),
        "lost": lost if record["ended"] is not None else 0,
        "duplicated": tally["duplicates"] if proven else max(0, pushed - len(accepted)),
        "dead_lettered": dead,
        "retried": _count(processes, "retried"),
    }


def _reasons(summary: Mapping[str, Any]) -> list[str]:
    """Return why the run is not valid."""
    reasons = []
    missing = summary["messages"] - summary["counts"]["published"]
    if missing > 0 and summary["ended"] is not None:
        reasons.append(f"{missing:,} of {summary['messages']:,} messages were not accepted")
    endpoint = summary["endpoint"]
    if endpoint["late"]:
        answered = summary["latency_ms"]["answer"]["p99"] / 1000.0
        reasons.append(
            f"the endpoint answered late: p99 {answered:.2f} s, where PUSH_SECONDS="
            f"{endpoint['push_seconds']:g} allows {endpoint['limit_seconds']:.2f} s"
        )
    if summary["clocks_apart_seconds"] > CLOCKS_SECONDS:
        reasons.append(
            f"the clocks of its processes disagree by {summary['clocks_apart_seconds']:.2f} s: "
            "synchronise them (NTP)"
        )
    lowest = min(latency["lowest"] for latency in summary["latency_ms"].values())
    if lowest < -CLOCKS_SECONDS * 1000.0 and summary["clocks_apart_seconds"] <= CLOCKS_SECONDS:
        reasons.append(f"clocks disagreed: a latency of {lowest / 1000.0:.2f} s was measured")
    for name, server in summary["servers"].items():
        what = _server_name(name)
        if server["refused_for_memory"]:
            reasons.append(f"{what} ran out of memory: {server['refused_for_memory']:,} commands refused")
        if server["evicted_keys"]:
            reasons.append(f"{what} evicted {server['evicted_keys']:,} keys")
    if summary["ended"] == "not finished":
        reasons.append("the run did not finish: nothing moved for 5 minutes")
    return reasons


def _warnings(record: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Return what to know before trusting the figures of a run that is valid."""
    warnings, counts = [], summary["counts"]
    if record["tally"]["proven"] is False:
        warnings.append("delivery is not proven: the endpoint is not ours, so arrival is the worker's word")
    share = (summary["resources"].get("publisher") or {}).get("cpu_share")
    if share is not None and share >= PUBLISHER_FULL and not summary["settings"]["PUBLISHER_DELAY"]:
        warnings.append(
            f"publisher: CPU {min(share, 1.0):.0%}: the publish rate is the publisher's own, not the queue's"
        )
    waited = {name: number for name, number in record["backlog_before"].items() if number}
    for name, number in waited.items():
        place = "queue" if name == "queue" else "Celery"
        warnings.append(f"{number:,} messages were in {place} before: shipped too, and in the way")
    if counts["unconfirmed"]:
        warnings.append(f"{counts['unconfirmed']:,} messages arrived that no publisher had confirmed")
    for stage, latency in summary["latency_ms"].items():
        if latency["negative"]:
            warnings.append(
                f"{latency['negative']:,} of {latency['count']:,} {stage} latencies are negative "
                f"(down to {latency['lowest']:,.1f} ms): clocks differ"
            )
    for name, server in summary["servers"].items():
        warnings += _server_warnings(_server_name(name), server)
    gone = [p["role"] for p in record["processes"].values() if p.get("gone")]
    if gone:
        names = ", ".join(f"{number} {role}" for role, number in sorted(Counter(gone).items()))
        warnings.append(f"died during the run, their last second is not in the figures: {names}")
    if 0 < counts["published"] < FEW_MESSAGES:
        warnings.append(f"{counts['published']:,} messages are too few to tell capacity and cost by")
    return warnings


def _server_warnings(what: str, server: Mapping[str, Any]) -> list[str]:
    if not server["restarts"]:
        return []
    times = "once" if server["restarts"] == 1 else f"{server['restarts']} times"
    if server["appendonly"] == "no":
        kept = "it keeps nothing on disk, so what waited in it was lost"
    elif server["appendfsync"] in ("everysec", "no"):
        kept = f"appendfsync {server['appendfsync']} may lose what was accepted in the last second or more"
    else:
        kept = "its figures begin anew"
    return [f"{what} restarted {times} during the run: {kept}"]


def _server_name(name: str) -> str:
    return "Redis (the queue)" if name == "queue" else "Redis (Celery's broker)"


def _count(processes: Processes, name: str) -> int:
    return sum(process["totals"]["counts"].get(name, 0) for process in processes)


def _of_role(processes: Processes, role: str) -> Processes:
    """Return the processes of a role that took part: those that did something, else all of them."""
    all_of_it = [process for process in processes if process["role"] == role]
    return [process for process in all_of_it if process["totals"]["counts"]] or all_of_it


def _spent(processes: Processes, kind: str, name: str) -> int:
    return sum(
        process["latest"][kind].get(name, 0) - process["baseline"][kind].get(name, 0) for process in processes
    )


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


def _merged(processes: Processes, stage: str) -> Histogram:
    merged = Histogram()
    for process in processes:
        if stage in process["totals"]["latencies"]:
            merged.merge(
                Histogram.of(msgspec.convert(process["totals"]["latencies"][stage], Latencies, strict=False))
            )
    return merged


def _latency(histogram: Histogram) -> dict[str, float]:
    return {
        "count": histogram.count,
        "negative": histogram.negative,
        "lowest": round(histogram.lowest_ms, 3),
        "mean": round(histogram.mean_ms, 3),
        **{name: round(histogram.quantile(share), 3) for name, share in QUANTILES.items()},
        "max": round(histogram.max_ms, 3),
    }


def _resources(processes: Processes) -> dict[str, Any]:
    roles: dict[str, Any] = {}
    for role in sorted({process["role"] for process in processes}):
        taking_part = _of_role(processes, role)
        spent = [_process_cpu(process) for process in taking_part]
        work = _count(taking_part, WORK.get(role, "")) + (
            _count(taking_part, "dead_lettered") if role == "worker" else 0
        )
        roles[role] = {
            "processes": len(taking_part),
            "cpu_seconds": round(sum(spent), 3),
            "startup_cpu_seconds": round(sum(p["startup_cpu_seconds"] for p in taking_part), 3),
            "cpu_us_per_message": round(sum(spent) * 1e6 / work, 1) if work else 0.0,
            "cpu_share": _cpu_share(taking_part, role),
            "max_rss_mib": round(max(p["latest"]["max_rss_mib"] for p in taking_part), 1),
        }
    return roles


def _process_cpu(process: Mapping[str, Any]) -> float:
    return float(process["latest"]["cpu_seconds"] - process["baseline"]["cpu_seconds"])


def _cpu_share(processes: Processes, role: str) -> float | None:
    """Return how much of a core each process of a role used while it worked; None: too short to tell."""
    flood_us, busy = _count(processes, "publish_cpu_us"), _busy(processes, "seconds")
    stage = ACTIVE.get(role, "")
    active = sum(_length(process["totals"]["active"].get(stage, [])) for process in processes)
    if role == "publisher" and flood_us and active:
        return round(flood_us / 1e6 / active, 4)
    if busy >= 1.0:
        return round(_busy(processes, "cpu_seconds") / busy, 4)
    if active >= planner.LEAST_SECONDS:
        return round(min(1.0, sum(map(_process_cpu, processes)) / active), 4)
    return None


def _busy(processes: Processes, figure: str) -> float:
    return float(sum(process["busy"][figure] for process in processes))


def _machine(processes: Processes) -> dict[str, Any]:
    """Return how full the workers' machines were while they worked."""
    workers = _of_role(processes, "worker")
    busy = sum(process["busy"]["seconds"] * process["cores"] for process in workers)
    used = sum(process["busy"]["machine_cpu_seconds"] for process in workers)
    return {
        "cores": max((process["cores"] for process in workers), default=0),
        "cpu_share": round(used / busy, 4) if busy >= 1.0 and used else None,
    }


def _server(server: Mapping[str, Any]) -> dict[str, Any]:
    busy = server["busy_seconds"]
    return {
        "version": server["version"],
        "peak_memory_mib": round(server["peak_memory"] / 2**20, 1),
        "cpu_seconds": round(server["cpu_seconds"], 3),
        "cpu_share": round(server["busy_cpu_seconds"] / busy, 4) if busy >= 1.0 else None,
        "evicted_keys": server["evicted_keys"],
        "refused_for_memory": server["refused_for_memory"],
        "restarts": server["restarts"],
        "appendonly": server["appendonly"],
        "appendfsync": server["appendfsync"],
    }


def _sqs(processes: Processes, measuring: Mapping[str, int]) -> dict[str, Any]:
    by_role: dict[str, Counter[str]] = {}
    for process in processes:
        spent = by_role.setdefault(process["role"], Counter())
        for action in process["latest"]["requests"]:
            spent[action] += _spent([process], "requests", action)
    made: Counter[str] = Counter()
    for requests in by_role.values():
        made.update(requests)
    return {
        "requests": {
            action: made[action] for action in sorted(made) if action[:1].isupper() and made[action]
        },
        "empty_receives": made["empty_receives"],
        "throttled": made["throttled"],
        "by_role": {role: dict(+requests) for role, requests in sorted(by_role.items()) if +requests},
        # The monitor's looks at the depth, which are not part of what the queue costs.
        "measuring_requests": dict(measuring),
    }


def _billable(sqs: Mapping[str, Any] | None) -> dict[str, int]:
    return {**sqs["requests"], "empty_receives": sqs["empty_receives"]} if sqs else {}


def _slots(processes: Processes) -> int:
    workers = _of_role(processes, "worker")
    # Of one that died and its successor only the latter.
    alive = [process for process in workers if not process["ended"] and not process.get("gone")]
    return sum(process["slots"] for process in alive or workers)


def _slots_share(processes: Processes, push: Histogram, active: list[list[float]]) -> float:
    """Return how much of the workers' slots was used, on average, while they were at work."""
    slots = _slots(processes)
    mean = push.mean_ms / 1000.0
    # At its end slots fall idle one after the other, over the length of a POST.
    seconds = _length(active) - mean / 2.0
    if not slots or seconds <= 0:
        return 0.0
    return min(1.0, push.count * mean / (slots * seconds))


def _clocks_apart(processes: Processes) -> float:
    """Return by how many seconds at least two clocks differ, beyond what the comparison can tell."""
    clocks = [process["clock"] for process in processes if process["clock"]["within_seconds"] >= 0]
    apart = [
        abs(one["offset_seconds"] - other["offset_seconds"]) - one["within_seconds"] - other["within_seconds"]
        for one, other in combinations(clocks, 2)
    ]
    return float(max([0.0, *apart]))


def _endpoint(settings: Mapping[str, Any], answers: Histogram) -> dict[str, Any]:
    push_seconds = float(settings["PUSH_SECONDS"])
    limit = push_seconds + max(LATE_SHARE * push_seconds, LATE_SECONDS)
    late = bool(answers.count) and answers.quantile(0.99) > limit * 1000.0
    return {"push_seconds": push_seconds, "limit_seconds": round(limit, 4), "late": late}
