"""Arithmetic on a run's record, which becomes its summary: knows no server, no clock and no English."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, combinations

import msgspec

from queuebench.figures import bottleneck, cost, planner, verdict
from queuebench.figures.findings import Server
from queuebench.figures.records import (
    Counts,
    EndpointAnswers,
    Latency,
    Load,
    Machine,
    Measured,
    Rates,
    Scope,
    ServerUse,
    SqsCalls,
    StageSeconds,
    Summary,
    Used,
)
from queuebench.measuring.histogram import Histogram
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.records import (
    FORMAT,
    Count,
    ProcessRecord,
    PublisherRecord,
    Role,
    RunRecord,
    ServerRecord,
    Stage,
    UsedSettings,
)

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
# Which count tells how many messages a role dealt with.
WORK = {
    Role.PUBLISHER: Count.PUBLISHED,
    Role.SUBSCRIBER: Count.RECEIVED,
    Role.WORKER: Count.PUSHED,
    Role.ENDPOINT: Count.ARRIVED,
    Role.DRAIN: Count.ARRIVED,
}
# Which active time is a role's.
ACTIVE = {
    Role.PUBLISHER: Stage.PUBLISH,
    Role.SUBSCRIBER: Stage.QUEUE_WAIT,
    Role.WORKER: Stage.PUSH,
    Role.ENDPOINT: Stage.ANSWER,
    Role.DRAIN: Stage.ANSWER,
}
# How much later than `PUSH_SECONDS` the endpoint may answer: the larger of a share of it and a time.
LATE_SHARE, LATE_SECONDS = 0.1, 0.1
# Shares of a core are not worth saying where the work took less.
LEAST_SECONDS = 0.5
LEAST_BUSY_SECONDS = 1.0

Processes = Sequence[ProcessRecord]
Intervals = list[tuple[float, float]]


def summarise(record: RunRecord) -> Summary:
    """Return the run's summary; that of an open run is how it stands."""
    measured = _measured(record)
    capacity = planner.per_process(measured.resources, measured.slots, measured.slot_seconds)
    subscribers = measured.resources.get(Role.SUBSCRIBER)
    worker = capacity.get(Role.WORKER)
    costs = cost.of_run(
        measured.used,
        measured.sqs,
        measured.counts.published,
        subscribers.processes if subscribers else 0,
        worker.per_second if worker else 0.0,
    )
    flaws = verdict.flaws(record, measured)
    return Summary(
        **msgspec.structs.asdict(measured),
        capacity=capacity,
        cost=costs,
        bottleneck=bottleneck.of_run(measured, capacity),
        how_many=planner.how_many(measured, capacity, costs),
        flaws=flaws,
        remarks=verdict.remarks(record, measured),
        valid=not flaws,
    )


def _measured(record: RunRecord) -> Measured:
    processes: Processes = list(record.processes.values())
    accepted = _accepted(record, processes)
    counts = _counts(record, processes, accepted)
    active = {stage: _active(processes, stage) for stage in ACTIVE.values()}
    handed_over = _active(processes, Stage.HAND_OVER)
    published, received = active[Stage.PUBLISH], active[Stage.QUEUE_WAIT]
    ends = active[Stage.ANSWER] or active[Stage.PUSH]
    drain = received[-1][1] - received[0][0] if received else 0.0
    total = max(0.0, ends[-1][1] - published[0][0]) if ends and published else 0.0
    histograms = {stage: _merged(processes, stage) for stage in Stage}
    slots, slot_seconds = _slots(processes), _slot_seconds(processes, histograms)
    settings = record.used
    timed = {role: 1.0 - _untimed_share(processes, role) for role in ACTIVE}
    publish_rate = _rate(counts.published * timed[Role.PUBLISHER], published)
    return Measured(
        format=FORMAT,
        run_id=record.run_id,
        scope=Scope.QUEUE if any(each.role is Role.DRAIN for each in processes) else Scope.WHOLE,
        queue=record.queue,
        label=record.label,
        local=record.local,
        messages=sum(_meant(publisher, accepted) for publisher in record.publishers.values()),
        started_at=record.started_at,
        ended_at=record.ended_at,
        ended=record.ended,
        settings=record.settings,
        versions=record.versions,
        proven=record.tally.proven,
        counts=counts,
        seconds=StageSeconds(round(_length(published), 3), round(drain, 3), round(total, 3)),
        rates=Rates(
            publish=publish_rate,
            receive=_rate(counts.received * timed[Role.SUBSCRIBER], received),
            hand_over=_rate(counts.handed_over * timed[Role.SUBSCRIBER], handed_over),
            push=_rate(counts.pushed * timed[Role.WORKER], active[Stage.PUSH]),
        ),
        load=_load(record, processes, publish_rate),
        latency_ms={stage: _latency(histogram) for stage, histogram in histograms.items()},
        distribution={stage: histogram.coarse() for stage, histogram in histograms.items()},
        resources=_resources(processes),
        machine=_machine(processes),
        servers={name: _server(record.servers[name]) for name in Server if name in record.servers},
        peaks=record.peaks,
        sqs=_sqs(processes, record.measuring_requests) if record.queue == "SQS" else None,
        slots=slots,
        slots_share=round(_slots_share(processes, slots, slot_seconds, active[Stage.PUSH]), 4),
        slot_seconds=round(slot_seconds, 6),
        held_back_share=round(_held_back_share(processes, drain), 4),
        clocks_apart_seconds=round(max(_clocks_apart(processes), record.clock_set_seconds), 4),
        endpoint=_endpoint(settings, histograms[Stage.ANSWER], _unassigned(processes, Count.REFUSED)),
    )


def _accepted(record: RunRecord, processes: Processes) -> Ranges:
    """Return the numbers that the queue is known to have accepted."""
    told = [each.accepted for each in record.publishers.values()]
    told += [each.totals.accepted for each in processes]
    return Ranges(sorted(chain.from_iterable(told)))


def _meant(publisher: PublisherRecord, accepted: Ranges) -> int:
    """Return how many messages a publisher meant to send; if it died unknown, what was accepted."""
    if publisher.left or publisher.messages:
        return publisher.messages
    return len(accepted) - len(accepted - Ranges([(publisher.first, publisher.end - 1)]))


def _load(record: RunRecord, processes: Processes, offered: float) -> Load:
    """Return what the publishers were asked for together, and how far they kept to it."""
    publishers, used = record.publishers.values(), record.used
    intended, published = _count(processes, Count.INTENDED), _count(processes, Count.PUBLISHED)
    asked = sum(publisher.per_second for publisher in publishers)
    return Load(
        asked=round(asked, 6),
        offered=offered,
        profile=used.profile,
        faster=max((publisher.faster for publisher in publishers), default=1.0),
        arrivals=used.arrivals,
        duration=used.duration,
        warm_up=used.warm_up,
        warm_up_messages=_count(
            [process for process in processes if process.role is Role.PUBLISHER], Count.UNTIMED
        ),
        message_bytes=used.message_bytes,
        unnumbered=_count(processes, Count.UNNUMBERED),
        intended=intended if asked else 0,
        behind=max(0, intended - published) if asked else 0,
    )


def _counts(record: RunRecord, processes: Processes, accepted: Ranges) -> Counts:
    publishers = record.publishers.values()
    tally, dead, pushed = record.tally, record.dead_letters.count, _count(processes, Count.PUSHED)
    is_over = record.ended is not None
    lost = unconfirmed = 0
    if tally.proven:
        delivered, duplicated = tally.distinct, tally.duplicates
        if is_over:
            lost = len(Ranges(tally.missing))
            unconfirmed = len(Ranges(tally.arrived) - accepted)
    else:
        delivered = min(pushed, len(accepted))
        lost = max(0, len(accepted) - pushed - dead) if is_over else 0
        # More than was accepted: what a dead publisher sent without an answer, or shipped twice.
        unsure = Ranges((each.first, each.end - 1) for each in publishers if not each.left)
        surplus = max(0, pushed - len(accepted))
        unconfirmed = min(surplus, len(unsure - accepted)) if is_over else 0
        duplicated = surplus - unconfirmed
    return Counts(
        published=len(accepted),
        unconfirmed=unconfirmed,
        received=_count(processes, Count.RECEIVED),
        handed_over=_count(processes, Count.HANDED_OVER),
        pushed=pushed,
        delivered=delivered,
        lost=lost,
        duplicated=duplicated,
        dead_lettered=dead,
        retried=_count(processes, Count.RETRIED),
    )


def _count(processes: Processes, name: Count) -> int:
    return sum(process.totals.counts.get(name, 0) for process in processes)


def _of_role(processes: Processes, role: Role) -> Processes:
    """Return the processes of a role that took part: those that did something, else all of them."""
    all_of_it = [process for process in processes if process.role is role]
    return [process for process in all_of_it if process.totals.counts] or all_of_it


def _requests(process: ProcessRecord) -> Counter[str]:
    made = Counter(process.latest.requests)
    made.subtract(process.baseline.requests)
    return +made


def _unassigned(processes: Processes, name: Count) -> int:
    return sum(
        max(0, process.latest.unassigned.get(name, 0) - process.baseline.unassigned.get(name, 0))
        for process in processes
    )


def _active(processes: Iterable[ProcessRecord], stage: Stage) -> Intervals:
    """Return when any process was active in a stage: sorted, disjoint intervals of Unix seconds."""
    merged: Intervals = []
    for start, end in sorted(pair for process in processes for pair in process.totals.active.get(stage, [])):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _length(intervals: Iterable[tuple[float, float]]) -> float:
    return sum(end - start for start, end in intervals)


def _untimed_share(processes: Processes, role: Role) -> float:
    """Return how much of what a role dealt with was of the warm-up, which its active time leaves out."""
    of_role = [process for process in processes if process.role is role]
    untimed, all_of_it = _count(of_role, Count.UNTIMED), _work(of_role, role)
    return untimed / all_of_it if all_of_it else 0.0


def _rate(count: float, intervals: Intervals) -> float:
    seconds = _length(intervals)
    # Unix seconds are no finer than that.
    return round(count / seconds, 1) if seconds > 1e-6 else 0.0


def _merged(processes: Processes, stage: Stage) -> Histogram:
    merged = Histogram()
    for process in processes:
        if stage in process.totals.latencies:
            merged.merge(Histogram.of(process.totals.latencies[stage]))
    return merged


def _latency(histogram: Histogram) -> Latency:
    return Latency(
        count=histogram.count,
        negative=histogram.negative,
        lowest=round(histogram.lowest_ms, 3),
        mean=round(histogram.mean_ms, 3),
        **{name: round(histogram.quantile(share), 3) for name, share in QUANTILES.items()},
        max=round(histogram.max_ms, 3),
    )


def _resources(processes: Processes) -> dict[Role, Used]:
    roles = {}
    for role in sorted({process.role for process in processes}):
        taking_part = _of_role(processes, role)
        cpu_seconds = sum(map(_cpu_seconds, taking_part))
        work = _work(taking_part, role)
        roles[role] = Used(
            processes=len(taking_part),
            cpu_seconds=round(cpu_seconds, 3),
            startup_cpu_seconds=round(sum(each.startup_cpu_seconds for each in taking_part), 3),
            cpu_us_per_message=round(cpu_seconds * 1e6 / work, 1) if work else 0.0,
            cpu_share=_cpu_share(taking_part, role),
            max_rss_mib=round(max(each.latest.max_rss_mib for each in taking_part), 1),
        )
    return roles


def _work(processes: Processes, role: Role) -> int:
    """Return how many messages a role dealt with; a worker is done with a dead letter too."""
    given_up = _count(processes, Count.DEAD_LETTERED) if role is Role.WORKER else 0
    return _count(processes, WORK[role]) + given_up


def _timed_work(processes: Processes) -> int:
    """Return how many messages the workers dealt with after the warm-up."""
    workers = [process for process in processes if process.role is Role.WORKER]
    return _work(workers, Role.WORKER) - _count(workers, Count.UNTIMED)


def _cpu_seconds(process: ProcessRecord) -> float:
    return max(0.0, process.latest.cpu_seconds - process.baseline.cpu_seconds)


def _cpu_share(processes: Processes, role: Role) -> float | None:
    """Return how much of a core each process of a role used while it worked; None: too short to tell."""
    flood_us = _count(processes, Count.PUBLISH_CPU_US)
    busy = sum(process.busy.seconds for process in processes)
    active = sum(_length(process.totals.active.get(ACTIVE[role], [])) for process in processes)
    if role is Role.PUBLISHER and flood_us and active:
        return round(flood_us / 1e6 / active, 4)
    if busy >= LEAST_BUSY_SECONDS:
        return round(sum(process.busy.cpu_seconds for process in processes) / busy, 4)
    if active >= LEAST_SECONDS:
        return round(min(1.0, sum(map(_cpu_seconds, processes)) / active), 4)
    return None


def _machine(processes: Processes) -> Machine:
    """Return how full the workers' machines were while they worked."""
    workers = _of_role(processes, Role.WORKER)
    busy = sum(process.busy.seconds * process.cores for process in workers)
    used = sum(process.busy.machine_cpu_seconds for process in workers)
    return Machine(
        cores=max((process.cores for process in workers), default=0),
        cpu_share=round(used / busy, 4) if busy >= LEAST_BUSY_SECONDS and used else None,
    )


def _server(server: ServerRecord) -> ServerUse:
    busy = server.busy_seconds
    return ServerUse(
        version=server.version,
        peak_memory_mib=round(server.peak_memory / 2**20, 1),
        cpu_seconds=round(server.cpu_seconds, 3),
        cpu_share=round(server.busy_cpu_seconds / busy, 4) if busy >= LEAST_BUSY_SECONDS else None,
        evicted_keys=server.evicted_keys,
        refused_for_memory=server.refused_for_memory,
        restarts=server.restarts,
        appendonly=server.appendonly,
        appendfsync=server.appendfsync,
    )


def _sqs(processes: Processes, measuring: dict[str, int]) -> SqsCalls:
    by_role: dict[Role, Counter[str]] = {}
    for process in processes:
        by_role.setdefault(process.role, Counter()).update(_requests(process))
    made: Counter[str] = Counter()
    for requests in by_role.values():
        made.update(requests)
    return SqsCalls(
        requests={action: made[action] for action in sorted(made) if action[:1].isupper()},
        empty_receives=made["empty_receives"],
        throttled=made["throttled"],
        by_role={role: dict(requests) for role, requests in sorted(by_role.items()) if requests},
        measuring_requests=measuring,
    )


def _slots(processes: Processes) -> int:
    workers = _of_role(processes, Role.WORKER)
    # Of one that died and its successor only the latter.
    alive = [process for process in workers if not process.ended and not process.gone]
    return sum(process.slots for process in alive or workers)


def _slot_seconds(processes: Processes, histograms: dict[Stage, Histogram]) -> float:
    """Return how long a shipment holds a slot: its POSTs; the pauses between them hold none."""
    posts, shipments = histograms[Stage.POST], _timed_work(processes)
    if posts.count and shipments:
        return posts.total_ns / 1e9 / shipments
    return histograms[Stage.PUSH].mean_ms / 1000.0


def _slots_share(processes: Processes, slots: int, slot_seconds: float, active: Intervals) -> float:
    """Return how much of the workers' slots was used, on average, while they were at work."""
    # At its end slots fall idle one after the other, over the length of a POST.
    seconds = _length(active) - slot_seconds / 2.0
    if not slots or seconds <= 0:
        return 0.0
    return min(1.0, _timed_work(processes) * slot_seconds / (slots * seconds))


def _held_back_share(processes: Processes, drain_seconds: float) -> float:
    """Return for which share of the drain a subscriber's lane paused, on average over all lanes."""
    subscribers = _of_role(processes, Role.SUBSCRIBER)
    lanes = sum(max(1, process.slots) for process in subscribers)
    if not lanes or drain_seconds <= 0:
        return 0.0
    paused_seconds = _unassigned(subscribers, Count.HELD_BACK_MS) / 1000.0
    return min(1.0, paused_seconds / (lanes * drain_seconds))


def _clocks_apart(processes: Processes) -> float:
    """Return by how many seconds at least two clocks differ, beyond what the comparison can tell."""
    clocks = [process.clock for process in processes if process.clock.within_seconds >= 0]
    apart = [
        abs(one.offset_seconds - other.offset_seconds) - one.within_seconds - other.within_seconds
        for one, other in combinations(clocks, 2)
    ]
    return max([0.0, *apart])


def _endpoint(settings: UsedSettings, answers: Histogram, refused: int) -> EndpointAnswers:
    push_seconds = settings.push_seconds
    limit = push_seconds + max(LATE_SHARE * push_seconds, LATE_SECONDS)
    late = bool(answers.count) and answers.quantile(0.99) > limit * 1000.0
    return EndpointAnswers(push_seconds, round(limit, 4), late, refused)
