"""A run's summary: frozen types, with numbers and codes and no words.

`results/<run id>/summary.json` holds all of it, and beside the numbers the words that `report.words`
makes of them (`reasons`, `warnings`, `bottleneck.stage` and `.why`, …) for whoever reads the file.
Nothing of this project reads those again: whatever shows a summary makes its words anew.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from queuebench.figures.findings import Amount, Figure, Flaw, Place, Remark, Server
from queuebench.measuring.records import (
    FORMAT,
    Ending,
    Factor,
    FormatError,
    Role,
    SettingValue,
    Stage,
    UsedSettings,
    decode,
    format_of,
    used_settings,
)
from queuebench.plumbing.printable import to_text

MOST_SUMMARY_BYTES = 64 * 2**20


class Verdict(StrEnum):
    """What is to be thought of a run."""

    VALID = "valid"
    INVALID = "invalid"
    LOST = "lost"
    RUNNING = "running"


class Limit(StrEnum):
    """Which limit is used up there."""

    UNKNOWN = "unknown"  # none that was looked at
    CPU = "cpu"  # a process's or a server's core
    CORES = "cores"  # all cores of the machine
    SLOTS = "slots"
    QUOTA = "quota"
    DELAY = "delay"  # PUBLISHER_DELAY
    ASKED = "asked"  # no more was asked for
    CALLS = "calls"  # one call after the other
    POST = "post"  # how long a POST takes
    LATE = "late"  # the endpoint answers later than it may


class Counts(Struct, frozen=True):
    """How many messages went how far."""

    published: Amount
    unconfirmed: Amount  # sent by a publisher that died before it knew whether the queue took them
    received: Amount
    handed_over: Amount
    pushed: Amount
    delivered: Amount
    lost: Amount
    duplicated: Amount
    dead_lettered: Amount
    retried: Amount


class StageSeconds(Struct, frozen=True):
    """How long publishing took, receiving from first to last, and first publish to last delivery."""

    publish: Figure
    drain: Figure
    total: Figure


class Rates(Struct, frozen=True):
    """Messages per second over each stage's own active time."""

    publish: Figure
    receive: Figure
    hand_over: Figure
    push: Figure


# How far the rate may be off, and how late messages may be sent, before the rate is the publisher's own.
KEPT_SHARE = 0.005
KEPT_MS = 50.0


class Load(Struct, frozen=True):
    """What the publishers were asked for together, and how far they kept to it; `asked` 0: a flood."""

    asked: Figure = 0.0  # messages a second, the mean of a profile
    offered: Figure = 0.0
    profile: str = ""
    faster: Factor = 1.0  # than the profile was counted that it went by
    arrivals: str = "even"
    duration: Figure = 0.0  # seconds; 0: until all messages are sent
    warm_up: Figure = 0.0  # seconds, whose messages have no part in latencies and rates
    warm_up_messages: Amount = 0
    message_bytes: Amount = 0  # of a message's text; 0: a short sentence, or a file's
    unnumbered: Amount = 0  # bodies of a file that are no JSON objects: sent as they are, no part of the run
    intended: Amount = 0  # messages that were due
    behind: Amount = 0  # of them, that had not been sent in time at the end

    @property
    def behind_share(self) -> float:
        """How much of what was due had not been sent."""
        return self.behind / self.intended if self.intended else 0.0


class Latency(Struct, frozen=True):
    """A stage's durations, all in milliseconds but for the counts."""

    count: Amount = 0
    negative: Amount = 0
    lowest: Figure = 0.0
    mean: Figure = 0.0
    p50: Figure = 0.0
    p90: Figure = 0.0
    p95: Figure = 0.0
    p99: Figure = 0.0
    p999: Figure = 0.0
    max: Figure = 0.0

    @property
    def mean_seconds(self) -> float:
        """The mean in seconds."""
        return self.mean / 1000.0


class Used(Struct, frozen=True):
    """What the processes of a role used, start-up apart; `cpu_share`: of a core each, None: not known."""

    processes: Amount
    cpu_seconds: Figure
    startup_cpu_seconds: Figure
    cpu_us_per_message: Figure
    cpu_share: Figure | None
    max_rss_mib: Figure


class Machine(Struct, frozen=True):
    """The workers' machines while they worked; `cpu_share` of all their cores, whoever used them."""

    cores: Amount
    cpu_share: Figure | None


class ServerUse(Struct, frozen=True):
    """What a Redis did during the run."""

    version: str | None
    peak_memory_mib: Figure
    cpu_seconds: Figure
    cpu_share: Figure | None
    evicted_keys: Amount
    refused_for_memory: Amount
    restarts: Amount
    appendonly: str
    appendfsync: str


class SqsCalls(Struct, frozen=True):
    """Requests as AWS bills them, by action."""

    requests: dict[str, Amount]
    empty_receives: Amount
    throttled: Amount
    by_role: dict[Role, dict[str, Amount]]
    measuring_requests: dict[str, Amount]  # the monitor's looks at the depth, no part of what the queue costs


class EndpointAnswers(Struct, frozen=True):
    """How late the endpoint was, and may be; how many POSTs it refused."""

    push_seconds: Figure
    limit_seconds: Figure
    late: bool
    refused: Amount


class Capacity(Struct, frozen=True, omit_defaults=True):
    """What one process of a role carries, and by which limit."""

    per_second: Annotated[float, Meta(ge=1e-30, le=1e60)]
    limit: Limit
    cpu_us_per_message: Figure | None = None
    slots: Amount | None = None
    slot_seconds: Figure | None = None  # that a shipment holds a slot


class Cost(Struct, frozen=True):
    """USD: of this run's requests, and a month at `messages_per_day`."""

    sqs_usd: Figure | None
    messages_per_day: Amount
    queue_usd_per_month: Figure
    workers_usd_per_month: Figure | None
    queue_usd_per_month_fixed: Figure
    queue_usd_per_million: Figure
    redis_usd_per_month: Figure
    break_even_messages_per_day: Amount | None


class Bottleneck(Struct, frozen=True, omit_defaults=True):
    """What held the run back: where, by which limit, and the numbers that show it."""

    place: Place
    limit: Limit
    role: Role | None = None  # whose CPU `cpu_share` is, where the place is no role
    per_second: Figure | None = None
    cpu_share: Figure | None = None
    machine_share: Figure | None = None
    cores: Amount | None = None
    capacity: Capacity | None = None
    slots: Amount | None = None
    slots_share: Figure | None = None
    slot_seconds: Figure | None = None
    call_ms: Figure | None = None
    post_seconds: Figure | None = None
    wait_seconds: Figure | None = None
    answer_seconds: Figure | None = None
    limit_seconds: Figure | None = None
    delay_seconds: Figure | None = None
    calls: Amount | None = None
    throttled: Amount | None = None
    fifo: bool | None = None


class Plan(Struct, frozen=True, omit_defaults=True):
    """What it takes to ship `target` messages in `hours`, and what it rests on."""

    target: Amount
    hours: Figure
    per_second: Figure
    slots: Amount
    slot_seconds: Figure
    workers: Amount
    worker: Capacity
    subscribers: Amount
    subscriber: Capacity
    worker_usd_per_hour: Figure
    usd: Figure
    redis_usd_per_hour: Figure | None = None
    sqs_usd_per_million: Figure | None = None


class Scope(StrEnum):
    """How much of the pipeline a run goes through."""

    WHOLE = "whole"
    QUEUE = "queue"  # to Celery's list, where a drain takes the tasks off: no POST, no end-to-end latency


class Measured(Struct, frozen=True, kw_only=True):
    """What was measured of a run; of an open one, how it stands."""

    format: int
    run_id: str
    scope: Scope = Scope.WHOLE
    queue: str  # a name in the registry
    label: str  # the queue as reports must name it
    local: bool  # our own SQS
    messages: Amount
    started_at: Figure
    ended_at: Figure | None
    ended: Ending | None
    settings: dict[str, SettingValue]
    versions: dict[str, str]
    proven: bool | None  # by the endpoint's own tally; None: it did not answer, False: it is not ours
    counts: Counts
    seconds: StageSeconds
    rates: Rates
    latency_ms: dict[Stage, Latency]
    distribution: dict[Stage, list[tuple[Figure, Amount]]]  # upper end in ms, count
    resources: dict[Role, Used]
    machine: Machine
    servers: dict[Server, ServerUse]
    peaks: dict[str, Amount]
    sqs: SqsCalls | None
    slots: Amount
    slots_share: Figure
    slot_seconds: Figure  # that a shipment holds a slot, on average
    held_back_share: Figure  # of the drain, that a subscriber's lane paused for what comes after it
    clocks_apart_seconds: Figure
    endpoint: EndpointAnswers
    load: Load = Load()

    @property
    def kept_its_rate(self) -> bool:
        """Whether the publishers were asked for a rate and kept to it."""
        late_ms = self.latency(Stage.PUBLISH_LATENESS).p99
        return self.load.asked > 0 and self.load.behind_share <= KEPT_SHARE and late_ms <= KEPT_MS

    @property
    def used(self) -> UsedSettings:
        """The settings that figures are made with."""
        return used_settings(self.settings, "the summary")

    @property
    def post(self) -> Latency:
        """How long one POST takes; where only whole shipments were timed, those."""
        one = self.latency(Stage.POST)
        return one if one.count else self.latency(Stage.PUSH)

    def latency(self, stage: Stage) -> Latency:
        """Return a stage's latencies; without any, zeros."""
        return self.latency_ms.get(stage, Latency())


class Summary(Measured, frozen=True, kw_only=True):
    """What was measured of a run, and what it means."""

    capacity: dict[Role, Capacity]
    cost: Cost
    bottleneck: Bottleneck
    how_many: Plan | None
    flaws: list[Flaw]
    remarks: list[Remark]
    valid: bool

    @property
    def verdict(self) -> Verdict:
        """What is to be thought of the run."""
        if self.ended is None:
            return Verdict.RUNNING
        if self.flaws:
            return Verdict.INVALID
        return Verdict.LOST if self.counts.lost else Verdict.VALID


def read_summary(data: bytes, called: str) -> Summary:
    """Return the summary that a summary.json holds.

    Raises:
        FormatError: another format, or no summary; one line that begins with what it is `called`.
    """
    with contextlib.suppress(UnicodeDecodeError):
        data = to_text(data).encode()  # an editor may have left a byte order mark
    found = format_of(data)
    if found is not None and found != FORMAT:
        raise FormatError(
            f"{called} is of format {found}, and this version reads format {FORMAT}: "
            "use the version that wrote it, or run it again"
        )
    summary = decode(data, Summary, called)
    used_settings(summary.settings, called)
    return summary


def to_summary(decoded: object, called: str) -> Summary:
    """Return the summary that already decoded JSON holds.

    Raises:
        FormatError: see `read_summary`.
    """
    return read_summary(msgspec.json.encode(decoded), called)
