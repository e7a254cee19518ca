"""Which stage bounds a run, and by which of its limits."""

from __future__ import annotations

from collections.abc import Mapping

from queuebench import prices
from queuebench.figures.cost import billed
from queuebench.figures.findings import Place, Server
from queuebench.figures.records import Bottleneck, Capacity, Limit, Measured
from queuebench.measuring.records import Role, Stage

# A process or a server of which so much is used has nothing left that counts.
FULL = 0.85
# The same of a whole machine, where a little always goes to the system.
MACHINE_FULL = 0.92
# Messages that waited less than this share of the publishing time kept up with the publisher.
KEPT_UP = 0.05
# Nor do those of a steady load that waited for longer.
LONGEST_STEADY_SECONDS = 1.0
# A subscriber whose lanes paused for such a share of the drain was held back by what comes after it.
HELD_BACK = 0.2
# Of the calls; fewer throttled ones cost next to nothing.
THROTTLED = 0.02
# A stage that was throttled for less of the run than this did not set the run's pace.
MOST_OF_THE_RUN = 0.5
# A wait of less than this share of a POST is none.
SHORT_WAIT = 0.25

Capacities = dict[Role, Capacity]


def of_run(run: Measured, capacity: Capacities) -> Bottleneck:
    """Return what bounds the run.

    Messages pile up in front of the slowest stage, so it is the one before which they waited
    longest, or the publisher where they did not wait; the limit is the first of its own that is
    used up. A quota that throttled calls through most of the run goes before all that a busy
    machine does to the stages behind it, unless those held the subscriber back or filled the slots.
    """
    if not run.counts.delivered:
        return Bottleneck(Place.NONE, Limit.UNKNOWN)
    waits = run.latency(Stage.QUEUE_WAIT).mean_seconds, run.latency(Stage.CELERY_WAIT).mean_seconds
    if run.kept_its_rate and not run.endpoint.late and max(waits) < _short_wait(run):
        return Bottleneck(Place.NONE, Limit.ASKED, per_second=run.load.offered)
    held_back = run.held_back_share > HELD_BACK
    if not held_back and run.slots_share < FULL and (quota := _binding_quota(run)):
        return quota
    if run.endpoint.late:
        return Bottleneck(
            Place.ENDPOINT,
            Limit.LATE,
            answer_seconds=run.latency(Stage.ANSWER).p99 / 1000.0,
            limit_seconds=run.endpoint.limit_seconds,
            cpu_share=_cpu_share(run, Role.ENDPOINT),
        )
    before_subscriber, before_worker = waits
    if held_back:
        before_subscriber, before_worker = 0.0, before_worker + before_subscriber
    longest = max(before_subscriber, before_worker)
    if longest < KEPT_UP * run.seconds.publish and not run.kept_its_rate:
        return _of_publisher(run, capacity)
    if longest < SHORT_WAIT * run.post.mean_seconds:
        return Bottleneck(
            Place.ENDPOINT, Limit.POST, post_seconds=run.post.mean_seconds, wait_seconds=longest
        )
    return _of_worker(run, capacity) if before_worker >= before_subscriber else _of_subscriber(run, capacity)


def _short_wait(run: Measured) -> float:
    """Return for how many seconds messages may wait, on average, where everything keeps up with the load."""
    return min(LONGEST_STEADY_SECONDS, KEPT_UP * run.seconds.publish)


def _binding_quota(run: Measured) -> Bottleneck | None:
    stages = (
        (run.seconds.drain, run.latency(Stage.QUEUE_WAIT).mean_seconds, Role.SUBSCRIBER),
        (run.seconds.publish, 0.0, Role.PUBLISHER),
    )
    # Of two that are throttled all the time, the one that messages wait for.
    for seconds, _, role in sorted(stages, key=lambda stage: stage[:2], reverse=True):
        if seconds >= MOST_OF_THE_RUN * run.seconds.total and (quota := _quota(run, role, seconds)):
            return quota
    return None


def _of_publisher(run: Measured, capacity: Capacities) -> Bottleneck:
    rate, delay = run.rates.publish, run.used.publisher_delay
    if delay:
        return Bottleneck(Place.PUBLISHER, Limit.DELAY, delay_seconds=delay, per_second=rate)
    if quota := _quota(run, Role.PUBLISHER, run.seconds.publish):
        return quota
    if full := _full(run, capacity, Role.PUBLISHER, Server.QUEUE):
        return full
    return Bottleneck(Place.PUBLISHER, Limit.CALLS, per_second=rate, call_ms=run.latency(Stage.PUBLISH).p50)


def _of_subscriber(run: Measured, capacity: Capacities) -> Bottleneck:
    if quota := _quota(run, Role.SUBSCRIBER, run.seconds.drain):
        return quota
    if full := _full(run, capacity, Role.SUBSCRIBER, Server.QUEUE, Server.BROKER):
        return full
    return Bottleneck(
        Place.SUBSCRIBER,
        Limit.UNKNOWN,
        per_second=run.rates.receive,
        wait_seconds=run.latency(Stage.QUEUE_WAIT).p50 / 1000.0,
    )


def _of_worker(run: Measured, capacity: Capacities) -> Bottleneck:
    if run.slots and run.slot_seconds and run.slots_share >= FULL:
        return Bottleneck(
            Place.WORKER,
            Limit.SLOTS,
            slots=run.slots,
            slots_share=run.slots_share,
            slot_seconds=run.slot_seconds,
            per_second=run.slots / run.slot_seconds,
        )
    if full := _full(run, capacity, Role.WORKER, Server.BROKER, Role.ENDPOINT):
        return full
    return Bottleneck(
        Place.WORKER,
        Limit.UNKNOWN,
        per_second=run.rates.push,
        slots=run.slots or None,
        slots_share=run.slots_share,
        cpu_share=_cpu_share(run, Role.WORKER),
    )


def _full(run: Measured, capacity: Capacities, *places: Role | Server) -> Bottleneck | None:
    """Return the first of some roles and servers whose core is used up, else the machine if it is."""
    for place in places:
        if isinstance(place, Server):
            server = run.servers.get(place)
            share = server.cpu_share if server is not None else None
            carries = None
        else:
            share = _cpu_share(run, place)
            carries = capacity.get(place)
        if share is not None and share >= FULL:
            by_cpu = carries is not None and carries.limit is Limit.CPU
            return Bottleneck(
                Place(place.value), Limit.CPU, cpu_share=share, capacity=carries if by_cpu else None
            )
    machine = run.machine
    if machine.cpu_share is not None and machine.cpu_share >= MACHINE_FULL:
        role = Role(places[0].value)
        return Bottleneck(
            Place.MACHINE,
            Limit.CORES,
            cores=machine.cores,
            machine_share=machine.cpu_share,
            role=role,
            cpu_share=_cpu_share(run, role),
        )
    return None


def was_throttled(run: Measured, role: Role) -> bool:
    """Tell whether the queue throttled more of a role's calls than cost next to nothing."""
    requests = _requests(run, role)
    calls = billed(requests)
    return bool(calls) and requests.get("throttled", 0) >= THROTTLED * calls


def _requests(run: Measured, role: Role) -> Mapping[str, int]:
    return run.sqs.by_role.get(role, {}) if run.sqs is not None else {}


def _quota(run: Measured, role: Role, seconds: float) -> Bottleneck | None:
    requests = _requests(run, role)
    calls, throttled = billed(requests), requests.get("throttled", 0)
    if not was_throttled(run, role) or seconds <= 0:
        return None
    busiest = max(count for action, count in requests.items() if action[:1].isupper())
    return Bottleneck(
        Place.QUEUE,
        Limit.QUOTA,
        per_second=max(0, busiest - throttled) / seconds,
        calls=calls,
        throttled=throttled,
        fifo=prices.sqs_kind(run.used.queue_name) == "fifo",
    )


def _cpu_share(run: Measured, role: Role) -> float | None:
    used = run.resources.get(role)
    return None if used is None else used.cpu_share
