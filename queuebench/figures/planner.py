"""Which stage bounds a run and why, and how many processes a target needs: arithmetic on a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from queuebench.figures import cost

# A process or a server of which so much is used has nothing left that counts.
FULL = 0.85
# The same of a whole machine, where a little always goes to the system.
MACHINE_FULL = 0.92
# Messages that waited less than this share of the publishing time kept up with the publisher.
KEPT_UP = 0.05
# A subscriber that paused for such a share of the drain was held back by what comes after it.
HELD_BACK = 0.2
# Of the calls; fewer throttled ones cost next to nothing.
THROTTLED = 0.02
# Shares of a core are not worth saying where the work took less.
LEAST_SECONDS = 0.5

DEFAULT_TARGET = 1_000_000
DEFAULT_HOURS = 1.0


def per_process(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one process of each role carries: messages per second, and why no more."""
    capacity: dict[str, Any] = {}
    resources = summary["resources"]
    for role in ("publisher", "subscriber", "worker"):
        used = resources.get(role)
        cpu_us = used["cpu_us_per_message"] if used else 0.0
        if not used or not cpu_us:
            continue
        by_cpu = 1e6 / cpu_us
        capacity[role] = {"per_second": by_cpu, "why": f"1 core ÷ {_duration(cpu_us / 1e6)} of CPU a message"}
    push_seconds = summary["latency_ms"]["push"]["mean"] / 1000.0
    slots = _slots_each(summary)
    if "worker" in capacity and slots and push_seconds:
        by_slots = slots / push_seconds
        if by_slots < capacity["worker"]["per_second"]:
            why = f"{slots:,} slots ÷ {_duration(push_seconds)}"
            capacity["worker"] = {"per_second": by_slots, "why": why}
    for role in capacity:
        capacity[role]["per_second"] = round(capacity[role]["per_second"], 1)
    return capacity


def how_many(
    summary: Mapping[str, Any], target: int = DEFAULT_TARGET, hours: float = DEFAULT_HOURS
) -> dict[str, Any] | None:
    """Return what it takes to ship `target` messages in `hours`; None where too little was measured."""
    capacity, push_seconds = summary["capacity"], summary["latency_ms"]["push"]["mean"] / 1000.0
    if "worker" not in capacity or "subscriber" not in capacity or not push_seconds:
        return None
    rate = target / (hours * 3600.0)
    slots = math.ceil(rate * push_seconds - 1e-9)
    workers = max(1, math.ceil(rate / capacity["worker"]["per_second"] - 1e-9))
    subscribers = max(1, math.ceil(rate / capacity["subscriber"]["per_second"] - 1e-9))
    settings, prices = summary["settings"], summary["cost"]
    worker_price = settings["WORKER_USD_PER_HOUR"]
    machines_usd = (workers + subscribers) * hours * worker_price
    if summary["queue"] == "SQS":
        queue_usd = target / 1e6 * prices["queue_usd_per_million"]
        queue_sum = f"{target:,} × ${prices['queue_usd_per_million']:.3g} a million (SQS)"
    else:
        queue_usd = hours * settings["REDIS_USD_PER_HOUR"]
        queue_sum = f"{_hours(hours)} × ${settings['REDIS_USD_PER_HOUR']:g} (Redis)"
    usd = machines_usd + queue_usd
    return {
        "target": target,
        "hours": hours,
        "slots": slots,
        "workers": workers,
        "subscribers": subscribers,
        "usd": round(usd, 4),
        "text": f"{target:,} in {_hours(hours)}: {_count(slots, 'slot')} = {_count(workers, 'worker')}, "
        f"{_count(subscribers, 'subscriber')}; about ${usd:,.2f}",
        "arithmetic": [
            f"{target:,} ÷ {hours * 3600:,.0f} s = {rate:,.1f}/s",
            f"{rate:,.1f}/s × {_duration(push_seconds)} a POST = {slots:,} slots at work",
            f"{rate:,.1f}/s ÷ {capacity['worker']['per_second']:,.0f}/s a worker process "
            f"({capacity['worker']['why']}) = {_count(workers, 'worker')}",
            f"{rate:,.1f}/s ÷ {capacity['subscriber']['per_second']:,.0f}/s a subscriber process "
            f"({capacity['subscriber']['why']}) = {_count(subscribers, 'subscriber')}",
            f"{workers + subscribers} processes × {_hours(hours)} × ${worker_price:g} + {queue_sum} "
            f"= ${usd:,.2f}",
        ],
    }


def bottleneck(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the stage that bounds the run, and why.

    Messages pile up in front of the slowest stage, so it is the one before which they waited
    longest, or the publisher where they did not wait; the reason is the first of its limits that
    is used up.
    """
    counts, latency = summary["counts"], summary["latency_ms"]
    if not counts["delivered"]:
        return {"stage": "none", "why": "nothing was delivered"}
    if summary["endpoint"]["late"]:
        answered, limit = latency["answer"]["p99"] / 1000.0, summary["endpoint"]["limit_seconds"]
        return {
            "stage": "endpoint",
            "why": f"answered after {answered:.2f} s (p99), later than the {limit:.2f} s allowed"
            + _cpu(summary, "endpoint"),
        }
    push_seconds = latency["push"]["mean"] / 1000.0
    before_subscriber, before_worker = (latency[s]["mean"] / 1000.0 for s in ("queue_wait", "celery_wait"))
    drain = summary["seconds"]["drain"]
    held_back = summary["held_back_seconds"] > HELD_BACK * drain > 0
    if held_back:
        before_subscriber, before_worker = 0.0, before_worker + before_subscriber
    longest = max(before_subscriber, before_worker)
    if longest < KEPT_UP * summary["seconds"]["publish"]:
        return _of_publisher(summary)
    if longest < 0.25 * push_seconds:
        return {
            "stage": "endpoint",
            "why": f"each POST takes {_duration(push_seconds)}, and messages waited only "
            f"{_duration(longest)} before it",
        }
    return _of_worker(summary) if before_worker >= before_subscriber else _of_subscriber(summary)


def _of_publisher(summary: Mapping[str, Any]) -> dict[str, str]:
    settings, rate = summary["settings"], summary["rates"]["publish"]
    if settings["PUBLISHER_DELAY"]:
        return {
            "stage": "publisher",
            "why": f"PUBLISHER_DELAY={settings['PUBLISHER_DELAY']:g} paces it: {rate:,.1f}/s",
        }
    if quota := _quota(summary, "publisher", summary["seconds"]["publish"]):
        return quota
    if full := _full(summary, "publisher", "queue"):
        return full
    call = latency_ms(summary, "publish")
    return {"stage": "publisher", "why": f"{rate:,.0f}/s; a call of {call:,.1f} ms (p50) after the other"}


def _of_subscriber(summary: Mapping[str, Any]) -> dict[str, str]:
    if quota := _quota(summary, "subscriber", summary["seconds"]["drain"]):
        return quota
    if full := _full(summary, "subscriber", "queue", "broker"):
        return full
    rate, wait = summary["rates"]["receive"], summary["latency_ms"]["queue_wait"]["p50"] / 1000.0
    return {
        "stage": "subscriber",
        "why": f"received {rate:,.0f}/s and no limit of its own was reached; messages waited "
        f"{_duration(wait)} (p50) for it",
    }


def _of_worker(summary: Mapping[str, Any]) -> dict[str, str]:
    slots, share = summary["slots"], summary["slots_share"]
    push_seconds = summary["latency_ms"]["push"]["mean"] / 1000.0
    if slots and share >= FULL:
        rate = slots / push_seconds
        return {"stage": "worker", "why": f"{slots:,} slots ÷ {_duration(push_seconds)} = {rate:,.0f}/s"}
    if full := _full(summary, "worker", "broker", "endpoint"):
        return full
    used = f"{share:.0%} of {slots:,} slots used" if slots else "slots not known"
    return {
        "stage": "worker",
        "why": f"{summary['rates']['push']:,.0f}/s; {used}{_cpu(summary, 'worker')}",
    }


def _full(summary: Mapping[str, Any], *places: str) -> dict[str, str] | None:
    """Return the first of some roles and servers whose core is used up, else the machine if it is."""
    for place in places:
        used = summary["resources"].get(place) or summary["servers"].get(place)
        share = used["cpu_share"] if used else None
        if share is not None and share >= FULL:
            name = {"queue": summary["label"], "broker": "broker"}.get(place, place)
            text = f"CPU {min(share, 1.0):.0%}"
            capacity = summary["capacity"].get(place)
            if capacity and capacity["why"].startswith("1 core"):
                text += f": {capacity['why']} = {capacity['per_second']:,.0f}/s a process"
            return {"stage": name, "why": text}
    machine = summary["machine"]
    if machine["cpu_share"] is not None and machine["cpu_share"] >= MACHINE_FULL:
        return {
            "stage": "machine",
            "why": f"its {machine['cores']} cores are full ({min(machine['cpu_share'], 1.0):.0%})"
            + _cpu(summary, places[0]),
        }
    return None


def _quota(summary: Mapping[str, Any], role: str, seconds: float) -> dict[str, str] | None:
    requests = summary["sqs"]["by_role"].get(role, {}) if summary["sqs"] else {}
    calls, throttled = cost.billed(requests), requests.get("throttled", 0)
    if not calls or throttled < THROTTLED * calls or seconds <= 0:
        return None
    busiest = max(count for action, count in requests.items() if action[:1].isupper())
    through = max(0, busiest - throttled) / seconds
    kind = cost.sqs_kind(summary["settings"])
    quota = "FIFO quota" if kind == "FIFO" else "throttled"
    return {
        "stage": summary["label"],
        "why": f"{quota} {through:,.0f} calls/s ({throttled:,} of {calls:,} calls were throttled)",
    }


def latency_ms(summary: Mapping[str, Any], stage: str, quantile: str = "p50") -> float:
    """Return one latency of a summary."""
    return float(summary["latency_ms"][stage][quantile])


def _cpu(summary: Mapping[str, Any], role: str) -> str:
    share = (summary["resources"].get(role) or {}).get("cpu_share")
    return "" if share is None else f", {role}'s CPU {min(share, 1.0):.0%}"


def _slots_each(summary: Mapping[str, Any]) -> int:
    workers = (summary["resources"].get("worker") or {}).get("processes", 0)
    return round(summary["slots"] / workers) if workers else 0


def _duration(seconds: float) -> str:
    if seconds >= 0.9995:
        text = f"{seconds:,.3f}".rstrip("0")
        return text + ("0 s" if text.endswith(".") else " s")
    if seconds >= 0.000_9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"


def _hours(hours: float) -> str:
    return "1 hour" if hours == 1 else f"{hours:g} hours"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
