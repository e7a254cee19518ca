"""The interface that every queue under test has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from queuebench.message import MAX_BODY_BYTES

Use = Literal["send", "receive", "look"]


@dataclass(frozen=True)
class Batch:
    """Messages received together, to be acknowledged together."""

    bodies: Sequence[bytes]
    ids: Sequence[str | None]  # the queue's own id of each message, where it gives one
    receipt: Any  # the queue's own: what acknowledges them
    deadline: float  # `time.monotonic()` from when the queue may give them to another consumer
    # What taking them took, in seconds and without the wait for the first; None: not known.
    fetch_seconds: float | None = None


class Depth(NamedTuple):
    """How many messages a queue holds; on AWS an approximation."""

    waiting: int
    in_flight: int


class Queue(ABC):
    """A queue with at-least-once delivery: receive, then acknowledge.

    Objects are safe to use from several threads. Every method raises `Unreachable` where the
    server does not answer and the same call may succeed later, and `QueueError` where it refuses.
    """

    name: str
    batch_size: int  # messages that one `publish` or `receive` should carry
    batch_bytes: int  # that one `publish` may carry, or one message that is larger
    sends: int  # how many `publish` calls at once it takes to keep the queue busy
    receivers: int  # likewise `receive` calls of one subscriber
    warning: str = ""  # what a subscriber must be told; known after `check`
    wait_seconds: float  # how long a `receive` should wait: long where somebody bills each call

    @abstractmethod
    def check(self) -> None:
        """Raise unless the queue is there and can be used; may create it."""

    def try_rights(self, use: Use) -> None:
        """Raise unless it may be used so, as far as a server lets that be tried without effect."""
        return

    def refuses(self, body: bytes) -> str:
        """Return why a message would never be taken, or never be read; '' where it would. After `check`."""
        if len(body) > MAX_BODY_BYTES:
            return f"it has {len(body):,} bytes, and a message may have {MAX_BODY_BYTES:,}"
        return ""

    @abstractmethod
    def publish(
        self, bodies: Sequence[bytes], lane: int, batch: int, tenants: Sequence[str] = ()
    ) -> Sequence[int]:
        """Send messages and return the positions of those that were not accepted.

        Args:
            bodies: at most `batch_size` messages.
            lane: which sender this is, 0 to `sends` - 1; one lane is used by one thread at a time.
            batch: a number that grows with each batch of the lane. A repeated call with the number,
                and the bodies, of the call before it, whose reply never came, repeats the same send:
                the queue drops what it has already accepted if it can tell.
            tenants: whose each message is, '' nobody's, for a queue that tells them apart.
        """

    @abstractmethod
    def receive(self, lane: int, wait_seconds: float) -> Batch | None:
        """Take up to `batch_size` messages; wait for the first, return None when none came."""

    @abstractmethod
    def acknowledge(self, batch: Batch) -> None:
        """Remove the messages of a batch for good."""

    @abstractmethod
    def depth(self) -> Depth:
        """Count what the queue holds."""

    @abstractmethod
    def close(self) -> None:
        """Give up connections; what was received and not acknowledged goes back."""

    def requests(self) -> Mapping[str, int]:
        """Return the calls made so far that somebody bills, by action."""
        return {}
