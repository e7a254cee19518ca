"""What makes a run not valid, and what to know before the figures of a valid one are trusted."""

from __future__ import annotations

from collections import Counter

from queuebench.figures.findings import (
    ArrivalUnknown,
    BacklogBefore,
    ClocksApart,
    ClocksWrong,
    Died,
    EndpointLate,
    Evicted,
    FewMessages,
    Flaw,
    ImplausibleTimes,
    NegativeLatencies,
    NotAccepted,
    NotFinished,
    NothingTimed,
    NotProven,
    OutOfMemory,
    Place,
    PublisherFull,
    PublisherLate,
    Remark,
    Restarted,
    SetAside,
    Squeezed,
    Unconfirmed,
    Unnumbered,
)
from queuebench.figures.records import Measured
from queuebench.measuring.records import Count, Ending, Role, RunRecord, Stage

# Clocks further apart than this make latencies between processes worthless.
CLOCKS_SECONDS = 0.1
PUBLISHER_FULL = 0.9
# Of which a capacity per process can be told with some confidence.
FEW_MESSAGES = 1000


def flaws(record: RunRecord, run: Measured) -> list[Flaw]:
    """Return why the run is not valid."""
    found: list[Flaw] = []
    missing = run.messages - run.counts.published
    if missing > 0 and run.ended is not None:
        found.append(NotAccepted(missing, run.messages))
    # An endpoint that is not ours says nothing either, and is known not to: that is no flaw.
    if run.ended is not None and run.proven is None:
        found.append(ArrivalUnknown())
    if run.endpoint.late:
        answered = run.latency(Stage.ANSWER).p99 / 1000.0
        found.append(EndpointLate(answered, run.endpoint.push_seconds, run.endpoint.limit_seconds))
    lowest = min((latency.lowest for latency in run.latency_ms.values()), default=0.0) / 1000.0
    if run.clocks_apart_seconds > CLOCKS_SECONDS:
        found.append(ClocksApart(run.clocks_apart_seconds))
    elif lowest < -CLOCKS_SECONDS:
        found.append(ClocksWrong(lowest))
    for name, server in run.servers.items():
        if server.refused_for_memory:
            found.append(OutOfMemory(name, server.refused_for_memory))
        if server.evicted_keys:
            found.append(Evicted(name, server.evicted_keys))
    if run.ended is Ending.NOT_FINISHED:
        found.append(NotFinished(max(0.0, (record.ended_at or 0.0) - record.moved_at)))
    if run.ended is not None and 0 < run.counts.published <= run.load.warm_up_messages:
        found.append(NothingTimed(run.load.warm_up))
    if run.ended is Ending.SET_ASIDE:
        found.append(SetAside())
    return found


def remarks(record: RunRecord, run: Measured) -> list[Remark]:
    """Return what to know before trusting the figures."""
    found: list[Remark] = []
    if run.proven is False:
        found.append(NotProven())
    publisher = run.resources.get(Role.PUBLISHER)
    share = publisher.cpu_share if publisher is not None else None
    load, late_ms = run.load, run.latency(Stage.PUBLISH_LATENESS).p99
    if load.asked and not run.kept_its_rate:
        calls = run.sqs.by_role.get(Role.PUBLISHER, {}) if run.sqs is not None else {}
        throttled = calls.get("throttled", 0)
        found.append(PublisherLate(load.asked, load.offered, load.intended, load.behind, late_ms, throttled))
    if load.faster != 1.0:
        found.append(Squeezed(load.faster))
    if load.unnumbered:
        found.append(Unnumbered(load.unnumbered))
    if share is not None and share >= PUBLISHER_FULL and not run.used.publisher_delay and not load.asked:
        found.append(PublisherFull(share))
    for name, place in (("queue", Place.QUEUE), ("celery", Place.BROKER)):
        if waited := record.backlog_before.get(name, 0):
            found.append(BacklogBefore(place, waited))
    if run.counts.unconfirmed:
        found.append(Unconfirmed(run.counts.unconfirmed))
    for stage, latency in run.latency_ms.items():
        if latency.negative:
            found.append(NegativeLatencies(stage, latency.negative, latency.count, latency.lowest))
    if left_out := sum(p.totals.counts.get(Count.IMPLAUSIBLE, 0) for p in record.processes.values()):
        found.append(ImplausibleTimes(left_out))
    for server, use in run.servers.items():
        if use.restarts:
            found.append(Restarted(server, use.restarts, use.appendonly, use.appendfsync))
    if gone := Counter(process.role for process in record.processes.values() if process.gone):
        found.append(Died(dict(sorted(gone.items()))))
    if 0 < run.counts.published < FEW_MESSAGES:
        found.append(FewMessages(run.counts.published))
    return found
