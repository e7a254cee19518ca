"""What is to be said of a run beside its figures: why it is not valid, and what to know before it is trusted.

Numbers and codes and no words; `report.words` makes those.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from queuebench.measuring.records import Factor, Role, Stage

# Neither nan nor infinite, and wide enough for whatever comes of a record's bounds: what a run was summarised
# as can be read again.
Figure = Annotated[float, Meta(ge=-1e60, le=1e60)]
Amount = Annotated[int, Meta(ge=0, le=9 * 10**18)]


class Place(StrEnum):
    """Where a run can be held back."""

    NONE = "none"
    PUBLISHER = "publisher"
    QUEUE = "queue"
    SUBSCRIBER = "subscriber"
    BROKER = "broker"
    WORKER = "worker"
    ENDPOINT = "endpoint"
    MACHINE = "machine"


class Server(StrEnum):
    """A Redis that is looked at."""

    QUEUE = "queue"
    BROKER = "broker"


# ---- why a run is not valid ----


class NotAccepted(Struct, frozen=True, tag_field="code", tag="not_accepted"):
    """The queue did not accept every message."""

    missing: Amount
    messages: Amount


class EndpointLate(Struct, frozen=True, tag_field="code", tag="endpoint_late"):
    """The endpoint answered later than it may."""

    p99_seconds: Figure
    push_seconds: Figure
    limit_seconds: Figure


class ClocksApart(Struct, frozen=True, tag_field="code", tag="clocks_apart"):
    """The clocks of two processes disagree, or one was set during the run."""

    seconds: Figure


class ClocksWrong(Struct, frozen=True, tag_field="code", tag="clocks_wrong"):
    """A latency was measured that only clocks that disagree can give."""

    lowest_seconds: Figure


class OutOfMemory(Struct, frozen=True, tag_field="code", tag="out_of_memory"):
    """A server refused commands for want of memory."""

    server: Server
    refused: Amount


class Evicted(Struct, frozen=True, tag_field="code", tag="evicted"):
    """A server threw keys away."""

    server: Server
    keys: Amount


class NotFinished(Struct, frozen=True, tag_field="code", tag="not_finished"):
    """Nothing moved for so long."""

    still_seconds: Figure


class SetAside(Struct, frozen=True, tag_field="code", tag="set_aside"):
    """The monitor could not go on with the run."""


class ArrivalUnknown(Struct, frozen=True, tag_field="code", tag="arrival_unknown"):
    """The endpoint did not say what arrived, at the run's end at least."""


class NothingTimed(Struct, frozen=True, tag_field="code", tag="nothing_timed"):
    """Every message was sent while the run warmed up."""

    warm_up_seconds: Figure


Flaw = (
    NotAccepted
    | EndpointLate
    | ClocksApart
    | ClocksWrong
    | OutOfMemory
    | Evicted
    | NotFinished
    | SetAside
    | ArrivalUnknown
    | NothingTimed
)

# ---- what to know before the figures of a valid run are trusted ----


class NotProven(Struct, frozen=True, tag_field="code", tag="not_proven"):
    """The endpoint is not ours, so that arrival is the worker's word."""


class PublisherFull(Struct, frozen=True, tag_field="code", tag="publisher_full"):
    """The publisher had no CPU left."""

    cpu_share: Figure


class PublisherLate(Struct, frozen=True, tag_field="code", tag="publisher_late"):
    """The publishers did not keep to the rate that was asked of them."""

    asked: Figure
    offered: Figure
    intended: Amount
    behind: Amount
    lateness_ms: Figure  # p99
    throttled: Amount = 0  # of their calls


class Unnumbered(Struct, frozen=True, tag_field="code", tag="unnumbered"):
    """Bodies of MESSAGES_FILE that are no JSON objects were sent as they are."""

    bodies: Amount


class Squeezed(Struct, frozen=True, tag_field="code", tag="squeezed"):
    """A curve went by in another time than it was counted in, with its rates."""

    faster: Factor


class BacklogBefore(Struct, frozen=True, tag_field="code", tag="backlog_before"):
    """Messages waited before the run began."""

    place: Place
    messages: Amount


class Unconfirmed(Struct, frozen=True, tag_field="code", tag="unconfirmed"):
    """Messages arrived that no publisher had confirmed."""

    messages: Amount


class NegativeLatencies(Struct, frozen=True, tag_field="code", tag="negative_latencies"):
    """Some latencies of a stage are negative."""

    stage: Stage
    negative: Amount
    count: Amount
    lowest_ms: Figure


class ImplausibleTimes(Struct, frozen=True, tag_field="code", tag="implausible_times"):
    """Times that no message can have were left out of the latencies."""

    times: Amount


class Restarted(Struct, frozen=True, tag_field="code", tag="restarted"):
    """A server restarted during the run."""

    server: Server
    times: Amount
    appendonly: str
    appendfsync: str


class Died(Struct, frozen=True, tag_field="code", tag="died"):
    """Processes died during the run."""

    processes: dict[Role, Amount]


class FewMessages(Struct, frozen=True, tag_field="code", tag="few_messages"):
    """Too few messages to tell capacity and cost by."""

    messages: Amount


Remark = (
    NotProven
    | PublisherFull
    | PublisherLate
    | Squeezed
    | Unnumbered
    | BacklogBefore
    | Unconfirmed
    | NegativeLatencies
    | ImplausibleTimes
    | Restarted
    | Died
    | FewMessages
)
