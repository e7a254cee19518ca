"""What both types of queue share: counts, timers, receipt handles, retention. No I/O; time is passed in.

Every step costs the same however many messages wait: nothing here walks over the backlog, except
purging, and tidying after as many steps as there are messages.
"""

from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush

from queuebench.local_sqs.attributes import (
    RedriveAllowPolicy,
    RedrivePolicy,
    parse_redrive_allow_policy,
    parse_redrive_policy,
)
from queuebench.local_sqs.errors import SqsError, invalid_receipt_handle, invalid_value
from queuebench.local_sqs.limits import CallRate, Limits
from queuebench.local_sqs.message import DELAYED, GONE, IN_FLIGHT, WAITING, Message

MAX_VISIBILITY_SECONDS = 43_200


class Queue(ABC):
    """What both types share: counts, timers, receipt handles, retention."""

    is_fifo = False

    def __init__(
        self,
        name: str,
        incarnation: str,
        attributes: dict[str, str],
        tags: dict[str, str],
        limits: Limits,
        now: float,
    ) -> None:
        self.name = name
        # tells the receipt handles of this queue from those of an earlier one of the same name
        self.incarnation = incarnation
        self.tags = tags
        self.limits = limits
        self.created_at = now
        self.modified_at = now
        self.purged_at = float("-inf")
        self.deleted = False
        self.waiting = self.in_flight = self.delayed = 0
        self.next_n = 1
        # delayed messages, and those received at least once: what a timer or a receipt handle may name
        self._tracked: dict[int, Message] = {}
        self._timers: list[tuple[float, int]] = []
        self._by_age: deque[Message] = deque()
        self._rates: dict[str, CallRate] = {}
        self.configure(attributes, now)

    def configure(self, attributes: dict[str, str], now: float) -> None:
        """Take over new attributes, already checked."""
        self.attributes = attributes
        self.modified_at = now
        self.visibility_timeout = int(attributes["VisibilityTimeout"])
        self.delay_seconds = int(attributes["DelaySeconds"])
        self.retention_seconds = int(attributes["MessageRetentionPeriod"])
        self.maximum_message_size = int(attributes["MaximumMessageSize"])
        self.wait_seconds = int(attributes["ReceiveMessageWaitTimeSeconds"])
        redrive, allow = attributes.get("RedrivePolicy"), attributes.get("RedriveAllowPolicy")
        self.redrive: RedrivePolicy | None = parse_redrive_policy(redrive) if redrive else None
        self.redrive_allow: RedriveAllowPolicy | None = parse_redrive_allow_policy(allow) if allow else None

    def admits_call(self, kind: str, now: float) -> bool:
        """Tell whether one more call of this kind is within the queue's quota, and count it if so."""
        return True

    # Sending

    def send(self, message: Message, now: float, delay_seconds: int | None = None) -> Message:
        """Add a message and return what the sender is told of: it, or the one that it duplicates."""
        self.advance(now)
        message.n = self.next_n
        self.next_n += 1
        self._arrive(message, now, self.delay_seconds if delay_seconds is None else delay_seconds)
        self._by_age.append(message)
        return message

    @abstractmethod
    def _arrive(self, message: Message, now: float, delay_seconds: int) -> None:
        """Place a new message: visible, or delayed."""

    # Receiving

    def receive(
        self,
        limit: int,
        visibility_timeout: int,
        now: float,
        bury: Callable[[Message], None] | None = None,
    ) -> list[Message]:
        """Take up to `limit` visible messages into flight; `bury` those received too often before."""
        self.advance(now)
        taken: list[Message] = []
        room = int(min(limit, self.limits.in_flight - self.in_flight))
        if room > 0:
            taken = self._take(room, bury)
        for message in taken:
            message.receive_count += 1
            message.received_at = now
            if message.first_received_at is None:
                message.first_received_at = now
            self._tracked[message.n] = message
            self._hide(message, now + visibility_timeout)
        self.waiting -= len(taken)
        self.in_flight += len(taken)
        return taken

    def take_visible(self, limit: int, now: float) -> list[Message]:
        """Remove up to `limit` visible messages and return them, as a move task does."""
        self.advance(now)
        taken = self._take(limit, None)
        self._release(taken)
        for message in taken:
            self._remove(message)
        return taken

    @abstractmethod
    def _release(self, taken: list[Message]) -> None:
        """Undo what taking does besides popping."""

    @abstractmethod
    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        """Pop visible messages."""

    def _is_worn_out(self, message: Message) -> bool:
        redrive = self.redrive
        return (
            redrive is not None and message.receive_count - message.moved_count >= redrive.max_receive_count
        )

    def _hide(self, message: Message, due: float) -> None:
        message.state = IN_FLIGHT
        message.due = due
        heappush(self._timers, (due, message.n))

    @abstractmethod
    def has_deliverable(self) -> bool:
        """Tell whether a receive would return something, as of the last `advance`."""

    def next_due(self) -> float | None:
        """Return when something may become visible by time alone, or None."""
        timers, tracked = self._timers, self._tracked
        while timers:
            due, n = timers[0]
            message = tracked.get(n)
            if message is not None and message.due == due and message.state in (IN_FLIGHT, DELAYED):
                return due
            heappop(timers)
        return None

    # What a receipt handle names

    def receipt_handle(self, message: Message) -> str:
        """Return the handle of the message's latest receive."""
        return b64encode(f"{self.incarnation}:{message.n}:{message.receive_count}".encode()).decode()

    def parse_receipt_handle(self, handle: str) -> tuple[int, int]:
        """Return which message, and which receive of it, the handle names.

        Raises:
            SqsError: it is not a handle of this queue.
        """
        try:
            incarnation, n_text, count_text = b64decode(handle, validate=True).decode("ascii").split(":")
            n, count = int(n_text), int(count_text)
        except (ValueError, Base64Error):
            raise invalid_receipt_handle(handle) from None
        if incarnation != self.incarnation or not 0 < n < self.next_n:
            raise invalid_receipt_handle(handle)
        return n, count

    def delete(self, handle: str, now: float) -> int | None:
        """Delete what the handle names; return its `n`, or None where nothing was deleted.

        The handle of an earlier receive deletes nothing: "If you use an old ReceiptHandle, the request
        will succeed, but the message might not be deleted" (service model, DeleteMessage).

        Raises:
            SqsError: the handle is not one of this queue, or (FIFO) has expired.
        """
        n, count = self.parse_receipt_handle(handle)
        self.advance(now)
        message = self._tracked.get(n)
        if message is None:
            return None
        self._check_handle_is_alive(message, count, handle)
        if message.receive_count != count:
            return None
        self._remove(message)
        return n

    def change_visibility(self, handle: str, timeout_seconds: int, now: float) -> Message | None:
        """Let the timeout of what the handle names end that many seconds from now.

        Return the message, or None where nothing changed: as on AWS, a standard queue's message that is
        visible again stays so, and the call succeeds.

        Raises:
            SqsError: the handle is not one of this queue, or no longer that message's, or the total
                would exceed 12 hours.
        """
        n, count = self.parse_receipt_handle(handle)
        self.advance(now)
        message = self._tracked.get(n)
        if message is None or not self._may_change(message, count):
            raise invalid_value(
                handle,
                "ReceiptHandle",
                "Message does not exist or is not available for visibility timeout change.",
            )
        if message.state != IN_FLIGHT:
            return None
        if now + timeout_seconds - message.received_at > MAX_VISIBILITY_SECONDS:
            raise invalid_value(
                timeout_seconds,
                "VisibilityTimeout",
                "Total VisibilityTimeout for the message is beyond the limit "
                f"[{MAX_VISIBILITY_SECONDS} seconds]",
            )
        self._hide(message, now + timeout_seconds)
        if not timeout_seconds:
            self._reappear(message)
        return message

    @abstractmethod
    def _may_change(self, message: Message, count: int) -> bool:
        """Tell whether the handle of that receive still changes the message's timeout."""

    @abstractmethod
    def _check_handle_is_alive(self, message: Message, count: int, handle: str) -> None:
        """Raise where an old handle is an error."""

    # Time

    def advance(self, now: float) -> None:
        """Do what is due: timeouts and delays that end, messages that are too old."""
        timers, tracked = self._timers, self._tracked
        while timers and timers[0][0] <= now:
            due, n = heappop(timers)
            message = tracked.get(n)
            if message is None or message.due != due:
                continue
            if message.state == IN_FLIGHT:
                self._reappear(message)
            elif message.state == DELAYED:
                self._end_delay(message)
        oldest = now - self.retention_seconds
        by_age = self._by_age
        while by_age and (by_age[0].state == GONE or by_age[0].sent_at <= oldest):
            message = by_age.popleft()
            if message.state != GONE:
                self._remove(message)

    def _end_delay(self, message: Message) -> None:
        del self._tracked[message.n]
        self.delayed -= 1
        self.waiting += 1
        message.state = WAITING
        self._place(message)

    def _reappear(self, message: Message) -> None:
        self.in_flight -= 1
        self.waiting += 1
        message.state = WAITING
        self._return(message)

    @abstractmethod
    def _place(self, message: Message) -> None:
        """Put a visible message last."""

    @abstractmethod
    def _return(self, message: Message) -> None:
        """Put a message whose timeout has ended first."""

    # Removing

    def _remove(self, message: Message) -> None:
        if message.state == IN_FLIGHT:
            self.in_flight -= 1
        elif message.state == DELAYED:
            self.delayed -= 1
        else:
            self.waiting -= 1
        self._tracked.pop(message.n, None)
        self._forget(message)
        message.state = GONE
        self._tidy()

    @abstractmethod
    def _forget(self, message: Message) -> None:
        """Let go of a message that is about to be gone."""

    def _tidy(self) -> None:
        """Drop what points to gone messages once that is more than half of it."""
        alive = self.waiting + self.in_flight + self.delayed
        if len(self._by_age) > 2 * alive + 1000:
            self._by_age = deque(message for message in self._by_age if message.state != GONE)
        if len(self._timers) > 2 * (self.in_flight + self.delayed) + 1000:
            tracked = self._tracked
            self._timers = [
                (due, n)
                for due, n in self._timers
                if (message := tracked.get(n)) is not None
                and message.due == due
                and message.state in (IN_FLIGHT, DELAYED)
            ]
            heapify(self._timers)

    def purge(self, now: float) -> None:
        """Delete every message.

        Raises:
            SqsError: the queue was purged less than 60 seconds ago.
        """
        if now - self.purged_at < self.limits.wait_seconds:
            raise SqsError(
                "PurgeQueueInProgress",
                f"Only one PurgeQueue operation on {self.name} is allowed every 60 seconds.",
            )
        self.purged_at = now
        self.clear()

    def clear(self) -> None:
        """Forget every message."""
        self.waiting = self.in_flight = self.delayed = 0
        self._tracked = {}
        self._timers = []
        self._by_age = deque()

    # The log

    def messages(self) -> Iterator[Message]:
        """Yield every message that is not gone, oldest first."""
        return (message for message in self._by_age if message.state != GONE)

    def snapshot_size(self) -> int:
        """Return how much has to be kept of this queue: messages, and what deduplication remembers."""
        return self.waiting + self.in_flight + self.delayed

    def restore(self, messages: Iterable[Message], now: float) -> None:
        """Take over messages (in the order of `n`) as they were when the log was written."""
        for message in messages:
            self._by_age.append(message)
            received = message.receive_count > message.moved_count
            if received:
                self._tracked[message.n] = message
            if message.due > now and received:
                self.in_flight += 1
                self._restore_in_flight(message)
                self._hide(message, message.due)
            elif message.due > now:
                self._arrive(message, now, 1)
            else:
                self.waiting += 1
                self._place(message)
        self.advance(now)

    @abstractmethod
    def _restore_in_flight(self, message: Message) -> None:
        """Take note of a message that was in flight."""
