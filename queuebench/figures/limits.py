"""The highest rate that a queue holds, as a search has found it: frozen types, numbers and codes."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from queuebench.figures.findings import Figure
from queuebench.figures.records import Bottleneck, Latency, Scope
from queuebench.figures.steady import Sign
from queuebench.measuring.records import FORMAT, SettingValue, Stage


class Kind(StrEnum):
    """What a probe is for, which says how long it is held."""

    SHORT = "short"
    LONG = "long"
    PROOF = "proof"


class Why(StrEnum):
    """Why a search ended."""

    PROVEN = "proven"
    CONFIRMED = "confirmed"  # as far as windows of 20 s tell: the proof was left out
    CAPPED = "capped"  # the publisher's limit, not the queue's
    TIME = "time"
    UNSURE = "unsure"  # what was seen contradicts itself, or cannot be told


class Step(Struct, frozen=True):
    """One probe of a search: a run in which a rate was held for a while."""

    rate: Figure  # messages a second
    seconds: Figure
    kind: Kind
    run_id: str
    held: bool | None
    sign: Sign
    slope: Figure | None = None  # of the age that decided, in seconds a second, with its interval
    slope_low: Figure | None = None
    slope_high: Figure | None = None
    carried: Figure | None = None


class RateLimit(Struct, frozen=True):
    """What a search found for one queue, fleet and scope."""

    queue: str
    label: str
    scope: Scope
    rate: Figure | None  # the highest that held; None: none did
    fails_at: Figure | None  # the lowest above it that did not; None: none was seen
    why: Why
    steps: list[Step]
    settings: dict[str, SettingValue]
    subscribers: int
    workers: int
    varied: dict[str, str] = {}
    gave_in: Bottleneck | None = None  # in the lowest rate that did not hold
    sign: Sign | None = None  # … and what showed it
    latency_ms: dict[Stage, Latency] = {}  # at the highest rate that held
    proven: bool = False
    format: int = FORMAT
