"""One message, and the states that it passes."""

from typing import Any

WAITING, DELAYED, IN_FLIGHT, GONE = range(4)

# AWS's sequence numbers have 20 digits, grow, and are not consecutive
_FIRST_SEQUENCE_NUMBER = 18_870_000_000_000_000_000
_SEQUENCE_STEP = 256


class Message:
    """One message in one queue; `n` counts the queue's messages in the order they were sent."""

    __slots__ = (
        "body", "dedup_id", "due", "extras", "first_received_at", "group", "id", "moved_count", "n",
        "next", "placed", "receive_count", "received_at", "sent_at", "state",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        body: str,
        *,
        sent_at: float,
        group: str | None = None,
        dedup_id: str | None = None,
        extras: dict[str, Any] | None = None,
    ) -> None:
        self.n = 0
        self.id = id
        self.body = body
        self.sent_at = sent_at
        self.group = group
        self.dedup_id = dedup_id
        self.extras = extras
        self.state = WAITING
        # when it becomes visible: the end of its delay or of its visibility timeout
        self.due = 0.0
        self.receive_count = 0
        # receives in other queues, before a dead-letter policy moved it here
        self.moved_count = 0
        self.first_received_at: float | None = None
        self.received_at = 0.0
        self.placed = False
        self.next: Message | None = None

    @property
    def sequence_number(self) -> str:
        """Return its SequenceNumber (FIFO queues)."""
        return str(_FIRST_SEQUENCE_NUMBER + self.n * _SEQUENCE_STEP)
