"""What one process carries, and how many of them a target needs."""

from __future__ import annotations

import math

from queuebench.figures.records import Capacity, Cost, Limit, Measured, Plan, Used
from queuebench.measuring.records import Role

DEFAULT_TARGET = 1_000_000
DEFAULT_HOURS = 1.0


def per_process(resources: dict[Role, Used], slots: int, slot_seconds: float) -> dict[Role, Capacity]:
    """Return what one process of each role carries, and by which limit no more.

    Args:
        resources: what the roles used.
        slots: of all workers together.
        slot_seconds: how long a shipment holds a slot; 0: not known.
    """
    capacity: dict[Role, Capacity] = {}
    for role in (Role.PUBLISHER, Role.SUBSCRIBER, Role.WORKER):
        used = resources.get(role)
        if used is None or not used.cpu_us_per_message:
            continue
        cpu_us = used.cpu_us_per_message
        capacity[role] = Capacity(_rounded(1e6 / cpu_us), Limit.CPU, cpu_us_per_message=cpu_us)
    worker = resources.get(Role.WORKER)
    slots_each = round(slots / worker.processes) if worker is not None and worker.processes else 0
    if Role.WORKER in capacity and slots_each and slot_seconds:
        by_slots = _rounded(slots_each / slot_seconds)
        if by_slots < capacity[Role.WORKER].per_second:
            capacity[Role.WORKER] = Capacity(
                by_slots, Limit.SLOTS, slots=slots_each, slot_seconds=slot_seconds
            )
    return capacity


def _rounded(per_second: float) -> float:
    """Return a rate with one decimal, or with four digits where that would make next to nothing of it."""
    return round(per_second, 1) if per_second >= 10.0 else float(f"{per_second:.4g}")


def how_many(
    measured: Measured,
    capacity: dict[Role, Capacity],
    cost: Cost,
    target: int = DEFAULT_TARGET,
    hours: float = DEFAULT_HOURS,
) -> Plan | None:
    """Return what it takes to ship `target` messages in `hours`; None where too little was measured."""
    worker, subscriber = capacity.get(Role.WORKER), capacity.get(Role.SUBSCRIBER)
    if worker is None or subscriber is None or not measured.slot_seconds:
        return None
    rate = target / (hours * 3600.0)
    workers = max(1, math.ceil(rate / worker.per_second - 1e-9))
    subscribers = max(1, math.ceil(rate / subscriber.per_second - 1e-9))
    settings = measured.used
    machines_usd = (workers + subscribers) * hours * settings.worker_usd_per_hour
    is_sqs = measured.sqs is not None
    queue_usd = target / 1e6 * cost.queue_usd_per_million if is_sqs else hours * settings.redis_usd_per_hour
    return Plan(
        target=target,
        hours=hours,
        per_second=rate,
        slots=math.ceil(rate * measured.slot_seconds - 1e-9),
        slot_seconds=measured.slot_seconds,
        workers=workers,
        worker=worker,
        subscribers=subscribers,
        subscriber=subscriber,
        worker_usd_per_hour=settings.worker_usd_per_hour,
        usd=round(machines_usd + queue_usd, 4),
        redis_usd_per_hour=None if is_sqs else settings.redis_usd_per_hour,
        sqs_usd_per_million=cost.queue_usd_per_million if is_sqs else None,
    )
