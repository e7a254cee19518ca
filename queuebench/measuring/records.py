"""What a process reports and what a run's record holds: frozen types, validated by msgspec.

msgspec and not pydantic: it checks while it decodes, about as fast as orjson alone decodes, so that
every report of every process can be checked at the door; and it brings no dependency of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from queuebench.errors import QueueBenchError

FORMAT = 3  # of reports, records and summaries; grows when one of before can no longer be read

MOST_NAME = 200  # characters of an id or a name
Name = Annotated[str, Meta(min_length=1, max_length=MOST_NAME)]
MOST = 10**15  # of anything that one process counts
Whole = Annotated[int, Meta(ge=0, le=MOST)]
Sum = Annotated[int, Meta(ge=0, le=9 * 10**18)]  # of what thousands of processes counted
# A year of waiting is plausible, and so is a clock that is a day off; nan and infinity are neither.
Seconds = Annotated[float, Meta(ge=0.0, le=4e9)]
Total = Annotated[float, Meta(ge=0.0, le=1e15)]  # seconds of many spells
Factor = Annotated[float, Meta(ge=1e-9, le=1e9)]
UnixSeconds = Annotated[float, Meta(ge=0.0, le=1e11)]
Number = Annotated[int, Meta(ge=0, le=10**15)]
Mebibytes = Annotated[float, Meta(ge=0.0, le=1e9)]
Range = tuple[Number, Number]  # first and last, both in it
Interval = tuple[UnixSeconds, UnixSeconds]
# A report has no more of each; what reports, keeps to them.
MOST_RANGES = 10_000  # of accepted numbers: a gap for each batch that is under way is a few
MOST_INTERVALS = 100  # of a stage that comes and goes
MOST_BUCKETS = 4_000  # of a histogram: from a microsecond to a year are 3,200
MOST_NAMED_RUNS = 64
MOST_ACTIONS = 50
Accepted = Annotated[list[Range], Meta(max_length=MOST_RANGES)]
SettingNumber = Annotated[int, Meta(ge=-(10**18), le=10**18)]
SettingValue = str | bool | SettingNumber | float | list[str | SettingNumber] | None


class FormatError(QueueBenchError):
    """Data are not what this version reads; the text says where and why."""


class Role(StrEnum):
    """Who reports."""

    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"
    WORKER = "worker"
    ENDPOINT = "endpoint"
    DRAIN = "drain"  # takes tasks off Celery's list, in the place of workers and endpoint


class Stage(StrEnum):
    """What is timed, in the order of a message's way."""

    PUBLISH_LATENESS = "publish_lateness"  # intended → sent
    PUBLISH = "publish"  # one call
    QUEUE_WAIT = "queue_wait"  # sent → received
    QUEUE_WAIT_QUIET = "queue_wait_quiet"  # of tenants that are not the noisy one
    QUEUE_WAIT_NOISY = "queue_wait_noisy"
    HAND_OVER = "hand_over"  # received → in Celery
    CELERY_WAIT = "celery_wait"  # in Celery → begun by a worker
    POST = "post"  # one POST
    PUSH = "push"  # a shipment, with its repetitions and the pauses between
    END_TO_END = "end_to_end"  # intended → accepted by the endpoint
    ANSWER = "answer"  # how long the endpoint itself took


class Count(StrEnum):
    """What is counted; of times in milliseconds and microseconds too."""

    INTENDED = "intended"  # due to be sent, by a publisher's schedule
    PUBLISHED = "published"
    PUBLISH_CPU_US = "publish_cpu_us"
    RECEIVED = "received"
    HANDED_OVER = "handed_over"
    HELD_BACK_MS = "held_back_ms"
    PUSHED = "pushed"
    RETRIED = "retried"
    DEAD_LETTERED = "dead_lettered"
    ARRIVED = "arrived"
    REFUSED = "refused"
    UNNUMBERED = "unnumbered"  # sent as they are, and no part of the run
    UNTIMED = "untimed"  # of those that a role dealt with: messages of the warm-up
    IMPLAUSIBLE = "implausible"  # times that were left out of the latencies


class Ending(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    LOST = "lost"
    NOT_FINISHED = "not finished"
    SET_ASIDE = "set aside"


# A nanosecond's bucket and that of more than a thousand years: what is beyond has no number of milliseconds.
Bucket = Annotated[int, Meta(ge=-1400, le=4000)]


class Latencies(Struct, frozen=True):
    """A histogram as it is sent and kept: see `Histogram`."""

    buckets: Annotated[dict[Bucket, Whole], Meta(max_length=MOST_BUCKETS)] = {}
    negative: Whole = 0
    total_ns: Annotated[int, Meta(ge=0)] = 0
    lowest_ms: Annotated[float, Meta(ge=-4e12, le=0.0)] = 0.0
    max_ms: Annotated[float, Meta(ge=0.0, le=4e12)] = 0.0

    def __post_init__(self) -> None:
        """Refuse sums that are beyond what can be.

        Raises:
            ValueError: they are.
        """
        if sum(self.buckets.values()) + self.negative > MOST or self.total_ns > 10**30:
            raise ValueError("more than any process can have timed")


class RunTotals(Struct, frozen=True):
    """What one process did for one run, so far; bounded by the lengths of its lists and histograms."""

    counts: dict[Count, Whole] = {}
    latencies: dict[Stage, Latencies] = {}
    active: dict[Stage, Annotated[list[Interval], Meta(max_length=MOST_INTERVALS)]] = {}
    accepted: Accepted = []

    @property
    def entries(self) -> int:
        """How many ranges, spells and buckets it is made of."""
        buckets = sum(len(latencies.buckets) for latencies in self.latencies.values())
        return len(self.accepted) + sum(map(len, self.active.values())) + buckets


class Clock(Struct, frozen=True):
    """A process's clock against the monitor's; `within_seconds` below 0: not compared yet."""

    offset_seconds: Annotated[float, Meta(ge=-1e11, le=1e11)] = 0.0
    within_seconds: Annotated[float, Meta(ge=-1.0, le=1e6)] = -1.0


class ProcessReport(Struct, frozen=True):
    """The newest totals of a process, sent about once a second."""

    format: int
    process: Name
    number: Whole  # of the process's reports: an older one never replaces a newer one
    role: Role
    host: Annotated[str, Meta(max_length=300)]
    pid: Whole
    slots: Whole
    started_at: UnixSeconds
    now: UnixSeconds
    clock: Clock
    ended: bool
    startup_cpu_seconds: Seconds
    cpu_seconds: Seconds
    max_rss_mib: Mebibytes
    cores: Annotated[int, Meta(ge=1, le=100_000)]
    machine_cpu_seconds: Seconds | None
    requests: Annotated[dict[Name, Whole], Meta(max_length=MOST_ACTIONS)] = {}
    unassigned: dict[Count, Whole] = {}  # of messages that belong to no run
    runs: Annotated[
        dict[Annotated[str, Meta(max_length=MOST_NAME)], RunTotals], Meta(max_length=MOST_NAMED_RUNS)
    ] = {}

    def __post_init__(self) -> None:
        """Refuse a sum that is beyond what can be.

        Raises:
            ValueError: it is.
        """
        if sum(self.requests.values()) > MOST:
            raise ValueError("more requests than any process can have made")


class ReportAnswer(Struct, frozen=True):
    """What the monitor answers to a report: its clock, and which run is open."""

    now: UnixSeconds
    run: Name | None = None


class JoinRequest(Struct, frozen=True):
    """A publisher wants to join the open run, or to open one."""

    format: int
    process: Name
    burst: Whole
    messages: Number  # that it means to send, as far as is known
    settings: dict[str, SettingValue]
    most: Number = 0  # that it may send after all, where that is more
    per_second: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0  # that it means to keep to; 0: a flood
    longest_pause: Seconds = 0.0  # between two messages, because it means to
    faster: Factor = 1.0  # than the curve was counted that it follows


class JoinAnswer(Struct, frozen=True):
    """Which run, the first number that is the publisher's, and what waited before, by place."""

    run_id: Name
    first: Number
    backlog: dict[str, Whole]


class LeaveRequest(Struct, frozen=True):
    """A publisher has ended; these numbers the queue has accepted."""

    format: int
    process: Name
    burst: Whole
    accepted: Accepted
    messages: Number | None = None  # that it meant to send, where that was not known before


class Usage(Struct, frozen=True):
    """What a process had used at a moment."""

    at: UnixSeconds  # the monitor's clock
    now: UnixSeconds  # the process's own
    cpu_seconds: Seconds
    machine_cpu_seconds: Seconds | None
    max_rss_mib: Mebibytes
    requests: dict[str, Whole] = {}
    unassigned: dict[Count, Whole] = {}


class Busy(Struct, frozen=True):
    """Time through which a process worked without a pause, and the CPU that went in it."""

    seconds: Total = 0.0
    cpu_seconds: Total = 0.0
    machine_cpu_seconds: Total = 0.0

    def __add__(self, other: Busy) -> Busy:
        """Return both together."""
        return Busy(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.machine_cpu_seconds + other.machine_cpu_seconds,
        )


class ProcessRecord(Struct, frozen=True):
    """What a run keeps of a process."""

    role: Role
    host: str
    slots: Whole
    cores: Annotated[int, Meta(ge=1, le=100_000)]
    ended: bool
    clock: Clock
    startup_cpu_seconds: Seconds
    baseline: Usage
    latest: Usage
    number: int = 0
    busy: Busy = Busy()
    pending: Busy | None = None
    totals: RunTotals = RunTotals()
    gone: bool = False


class PublisherRecord(Struct, frozen=True):
    """One burst of one publisher."""

    process: str
    first: Number
    messages: Number  # that it means to send; once it has left, that it meant to
    left: bool
    accepted: list[Range]
    seen_at: UnixSeconds = 0.0
    most: Number = 0  # numbers that are its own, where they are more than `messages`
    per_second: Total = 0.0
    longest_pause: Total = 0.0
    faster: Factor = 1.0

    @property
    def end(self) -> int:
        """The first number that is no longer its own."""
        return self.first + max(self.messages, self.most)


class Tally(Struct, frozen=True):
    """What arrived, by the endpoint's own word; `proven` None: it did not answer, False: not ours."""

    proven: bool | None = None
    distinct: Whole = 0
    duplicates: Whole = 0
    arrived: list[Range] = []
    missing: list[Range] = []


class DeadLettered(Struct, frozen=True):
    """Which of the run's messages became dead letters."""

    count: Whole = 0
    numbers: list[Range] = []


class ServerRecord(Struct, frozen=True):
    """What a Redis-protocol server did, totals from the run's start on and over restarts."""

    version: str | None
    run_id: str
    at: UnixSeconds
    used_memory: Whole
    restarts: Whole
    appendonly: str
    appendfsync: str
    counters: dict[str, Total]
    cpu_seconds: Total
    evicted_keys: Whole
    refused_for_memory: Whole
    busy_seconds: Total
    busy_cpu_seconds: Total
    peak_memory: Whole
    peak_before: Whole


class UsedSettings(Struct, frozen=True, rename="upper"):
    """The settings that figures are made with; a run without one of them is not opened."""

    queue_name: str
    sqs_queues: Annotated[int, Meta(ge=1, le=10**6)]
    sqs_threads: Annotated[int, Meta(ge=1, le=10**6)]
    publisher_delay: Seconds
    push_seconds: Seconds
    push_timeout: Seconds
    endpoint_slow_share: Annotated[float, Meta(ge=0.0, le=1.0)]
    endpoint_slow_seconds: Seconds
    messages_per_day: Annotated[int, Meta(ge=1, le=10**12)]
    redis_usd_per_hour: Annotated[float, Meta(ge=0.0, le=1e4)]
    worker_usd_per_hour: Annotated[float, Meta(ge=0.0, le=1e4)]
    arrivals: str = "even"
    duration: Seconds = 0.0
    warm_up: Seconds = 0.0
    profile: str = ""
    message_bytes: Whole = 0


class RunRecord(Struct, frozen=True):
    """All that is known of a run; its summary is made from this alone. Kept on disk as it is."""

    format: int
    run_id: str
    queue: str
    label: str
    local: bool
    started_at: UnixSeconds
    settings: dict[str, SettingValue]
    versions: dict[str, str]
    backlog_before: dict[str, Whole]
    moved_at: UnixSeconds = 0.0
    moved: list[Sum] = []
    empty_since: UnixSeconds | None = None
    ending_since: UnixSeconds | None = None
    ended_at: UnixSeconds | None = None
    ended: Ending | None = None
    publishers: dict[str, PublisherRecord] = {}
    processes: dict[str, ProcessRecord] = {}
    tally: Tally = Tally()
    dead_letters: DeadLettered = DeadLettered()
    servers: dict[str, ServerRecord] = {}
    peaks: dict[str, Whole] = {}
    measuring_requests: dict[str, Whole] = {}
    clock_set_seconds: Annotated[float, Meta(ge=0.0, le=1e11)] = 0.0  # the monitor's, during the run

    @property
    def used(self) -> UsedSettings:
        """The settings that figures are made with."""
        return used_settings(self.settings, "the record")


T = TypeVar("T")


def encode(data: Any) -> bytes:
    """Return one of these types as JSON."""
    return msgspec.json.encode(data)


_decoders: dict[Any, Any] = {}
_making = threading.Lock()


def decoder_of(what: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type, made once.

    msgspec works out a type when it is first used, and a process in which two threads do so at the same
    time dies of it; so every type is worked out here, by one thread at a time.
    """
    found: msgspec.json.Decoder[T] | None = _decoders.get(what)
    if found is None:
        with _making:
            found = _decoders.setdefault(what, msgspec.json.Decoder(what))
    return found


def decode(data: bytes, what: type[T], called: str) -> T:
    """Read one of these types from JSON and check it.

    Raises:
        FormatError: another format, not JSON, or a value that cannot be; one line that says which.
    """
    try:
        read = decoder_of(what).decode(data)
        found = getattr(read, "format", FORMAT)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = format_of(data)
        if found is None or found == FORMAT:
            raise FormatError(f"{called} cannot be used: {error}") from None
    if found != FORMAT:
        raise FormatError(
            f"{called} is of format {found}, this version reads format {FORMAT}: use one version for all"
        )
    return read


def used_settings(settings: Mapping[str, SettingValue], called: str) -> UsedSettings:
    """Return the settings that figures are made with.

    Raises:
        FormatError: one is missing, or has a value that cannot be; one line that says which.
    """
    decoder_of(UsedSettings)
    try:
        return msgspec.convert(settings, UsedSettings)
    except msgspec.ValidationError as error:
        raise FormatError(f"{called} cannot be used: settings: {error}") from None


class _Format(Struct):
    format: int | None = None


def format_of(data: bytes) -> int | None:
    """Return the format that some JSON says it is of."""
    try:
        return decoder_of(_Format).decode(data).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
