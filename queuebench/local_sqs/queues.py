"""The two types of queue: what waits, what is in flight, what comes back. No I/O; time is passed in.

Every step costs the same however many messages wait: nothing here walks over the backlog, except
purging, and tidying after as many steps as there are messages.
"""

from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from queuebench.local_sqs.attributes import (
    RedriveAllowPolicy,
    RedrivePolicy,
    parse_redrive_allow_policy,
    parse_redrive_policy,
)
from queuebench.local_sqs.errors import SqsError, invalid_receipt_handle, invalid_value
from queuebench.local_sqs.limits import CallRate, Limits

WAITING, DELAYED, IN_FLIGHT, GONE = range(4)

MAX_VISIBILITY_SECONDS = 43_200
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html
DEDUPLICATION_SECONDS = 300
# AWS's sequence numbers have 20 digits, grow, and are not consecutive
_FIRST_SEQUENCE_NUMBER = 18_870_000_000_000_000_000
_SEQUENCE_STEP = 256

DedupKey = str | tuple[str, str]


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

    def change_visibility(self, handle: str, timeout_seconds: int, now: float) -> Message:
        """Let the timeout of what the handle names end that many seconds from now.

        Raises:
            SqsError: the handle is not one of this queue, or no longer that message's, or the total
                would exceed 12 hours.
        """
        n, count = self.parse_receipt_handle(handle)
        self.advance(now)
        message = self._tracked.get(n)
        if message is not None:
            self._check_handle_is_alive(message, count, handle)
        if message is None or message.receive_count != count:
            raise invalid_value(
                handle,
                "ReceiptHandle",
                "Message does not exist or is not available for visibility timeout change.",
            )
        if now + timeout_seconds - message.received_at > MAX_VISIBILITY_SECONDS:
            raise invalid_value(
                timeout_seconds,
                "VisibilityTimeout",
                "Total VisibilityTimeout for the message is beyond the limit "
                f"[{MAX_VISIBILITY_SECONDS} seconds]",
            )
        if message.state != IN_FLIGHT:
            self.waiting -= 1
            self.in_flight += 1
        self._hide(message, now + timeout_seconds)
        if not timeout_seconds:
            self._reappear(message)
        return message

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


class StandardQueue(Queue):
    """Best-effort order: first in, first out, except that what comes back comes first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ready: deque[Message] = deque()
        super().__init__(*args, **kwargs)

    def _arrive(self, message: Message, now: float, delay_seconds: int) -> None:
        if delay_seconds:
            message.state = DELAYED
            message.due = message.due or now + delay_seconds
            self._tracked[message.n] = message
            heappush(self._timers, (message.due, message.n))
            self.delayed += 1
        else:
            self.waiting += 1
            self._place(message)

    def _place(self, message: Message) -> None:
        message.placed = True
        self._ready.append(message)

    def _return(self, message: Message) -> None:
        if not message.placed:
            message.placed = True
            self._ready.appendleft(message)

    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        taken: list[Message] = []
        ready = self._ready
        while ready and len(taken) < limit:
            message = ready.popleft()
            message.placed = False
            if message.state != WAITING:
                continue
            if bury is not None and self._is_worn_out(message):
                bury(message)
                self._remove(message)
                continue
            taken.append(message)
        return taken

    def has_deliverable(self) -> bool:
        return self.waiting > 0

    def _release(self, taken: list[Message]) -> None:
        pass

    def _forget(self, message: Message) -> None:
        pass

    def _restore_in_flight(self, message: Message) -> None:
        pass

    def _check_handle_is_alive(self, message: Message, count: int, handle: str) -> None:
        pass

    def clear(self) -> None:
        super().clear()
        self._ready = deque()


class _Group:
    """A message group: its visible messages as a linked list, and how many are in flight."""

    __slots__ = ("head", "in_flight", "listed", "tail")

    def __init__(self) -> None:
        self.head: Message | None = None
        self.tail: Message | None = None
        self.in_flight = 0
        self.listed = False

    def append(self, message: Message) -> None:
        message.next = None
        if self.tail is None:
            self.head = message
        else:
            self.tail.next = message
        self.tail = message

    def pop(self) -> Message:
        message = self.head
        assert message is not None
        self.head = message.next
        if self.head is None:
            self.tail = None
        message.next = None
        return message

    def insert(self, message: Message) -> None:
        """Put back what was taken; only others that came back can be ahead of it."""
        ahead: Message | None = None
        behind = self.head
        while behind is not None and behind.n < message.n:
            ahead, behind = behind, behind.next
        message.next = behind
        if ahead is None:
            self.head = message
        else:
            ahead.next = message
        if behind is None:
            self.tail = message

    def trim(self) -> None:
        """Drop gone messages at the head."""
        while self.head is not None and self.head.state == GONE:
            self.pop()


class FifoQueue(Queue):
    """Order within a group; a group with a message in flight is locked; no duplicates for 5 minutes.

    A message passes three stages, each first in, first out: delayed; backlog, when more messages are
    ahead of it than SQS searches for free groups; its group.
    """

    is_fifo = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._late: deque[Message] = deque()
        self._backlog: deque[Message] = deque()
        self._groups: dict[str, _Group] = {}
        self._grouped = 0
        # (n of the head, group) of groups that may be free, oldest first
        self._free: list[tuple[int, str]] = []
        self._recent: dict[DedupKey, tuple[float, str, int]] = {}
        self._attempts: dict[str, tuple[float, list[tuple[Message, int, float]]]] = {}
        super().__init__(*args, **kwargs)

    def configure(self, attributes: dict[str, str], now: float) -> None:
        super().configure(attributes, now)
        self.content_based_deduplication = attributes["ContentBasedDeduplication"] == "true"
        self._scope_is_group = attributes["DeduplicationScope"] == "messageGroup"
        self._high_throughput = attributes["FifoThroughputLimit"] == "perMessageGroupId"
        # on a FIFO queue a changed delay holds for the messages that wait, too
        for message in self._late:
            message.due = message.sent_at + self.delay_seconds

    def admits_call(self, kind: str, now: float) -> bool:
        if self._high_throughput:
            return True
        rate = self._rates.get(kind)
        if rate is None:
            rate = self._rates[kind] = CallRate(self.limits.fifo_calls_per_second)
        return rate.admits(now)

    def send(self, message: Message, now: float, delay_seconds: int | None = None) -> Message:
        if message.dedup_id is None:
            return super().send(message, now, delay_seconds)
        self.advance(now)
        key = self.dedup_key(message.group, message.dedup_id)
        earlier = self._recent.get(key)
        if earlier is not None:
            _, message.id, message.n = earlier
            message.state = GONE
            return message
        super().send(message, now, delay_seconds)
        self._recent[key] = (now, message.id, message.n)
        return message

    def dedup_key(self, group: str | None, dedup_id: str) -> DedupKey:
        """Return what two messages share when one is the other's duplicate."""
        return (group or "", dedup_id) if self._scope_is_group else dedup_id

    def _forget_old_duplicates(self, now: float) -> None:
        recent = self._recent
        while recent:
            key = next(iter(recent))
            if recent[key][0] > now - DEDUPLICATION_SECONDS:
                return
            del recent[key]

    def recent(self) -> Iterator[tuple[DedupKey, tuple[float, str, int]]]:
        """Yield what deduplication remembers: key → (time, message id, n)."""
        return iter(self._recent.items())

    def snapshot_size(self) -> int:
        return super().snapshot_size() + len(self._recent)

    def remember(self, key: DedupKey, sent_at: float, id: str, n: int) -> None:
        """Take over what deduplication remembered, from the log."""
        self._recent[key] = (sent_at, id, n)

    def _arrive(self, message: Message, now: float, delay_seconds: int) -> None:
        if delay_seconds or self._late:
            message.state = DELAYED
            message.due = message.due or now + delay_seconds
            self.delayed += 1
            self._late.append(message)
        else:
            self.waiting += 1
            self._place(message)

    def _place(self, message: Message) -> None:
        if self._grouped < self.limits.fifo_search and not self._backlog:
            self._join(message)
        else:
            self._backlog.append(message)

    def _join(self, message: Message) -> None:
        message.placed = True
        self._grouped += 1
        group_id = message.group or ""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = _Group()
        group.append(message)
        self._offer(group_id, group)

    def _admit(self) -> None:
        backlog = self._backlog
        while backlog and self._grouped < self.limits.fifo_search:
            message = backlog.popleft()
            if message.state != GONE:
                self._join(message)

    def _offer(self, group_id: str, group: _Group) -> None:
        """List the group as free if it is."""
        group.trim()
        if group.in_flight:
            return
        if group.head is None:
            if not group.listed:
                self._groups.pop(group_id, None)
        elif not group.listed:
            group.listed = True
            heappush(self._free, (group.head.n, group_id))

    def advance(self, now: float) -> None:
        super().advance(now)
        self._forget_old_duplicates(now)
        late = self._late
        while late and (late[0].due <= now or late[0].state == GONE):
            message = late.popleft()
            if message.state == DELAYED:
                message.state = WAITING
                self.delayed -= 1
                self.waiting += 1
                self._place(message)

    def next_due(self) -> float | None:
        due = super().next_due()
        if self._late:
            return self._late[0].due if due is None else min(due, self._late[0].due)
        return due

    def _first_free(self) -> tuple[str, _Group] | None:
        free = self._free
        while free:
            group_id = free[0][1]
            group = self._groups[group_id]
            group.trim()
            if group.head is not None and not group.in_flight:
                return group_id, group
            heappop(free)
            group.listed = False
            self._offer(group_id, group)
        return None

    def has_deliverable(self) -> bool:
        return self._first_free() is not None

    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        taken: list[Message] = []
        while len(taken) < limit and (first := self._first_free()) is not None:
            group_id, group = first
            heappop(self._free)
            group.listed = False
            while len(taken) < limit and group.head is not None:
                message = group.pop()
                if message.state == GONE:
                    continue
                if bury is not None and self._is_worn_out(message):
                    bury(message)
                    self._remove(message)
                    continue
                group.in_flight += 1
                taken.append(message)
            self._offer(group_id, group)
        return taken

    def _release(self, taken: list[Message]) -> None:
        for message in taken:
            group_id = message.group or ""
            group = self._groups[group_id]
            group.in_flight -= 1
            self._offer(group_id, group)

    def _return(self, message: Message) -> None:
        group_id = message.group or ""
        group = self._groups[group_id]
        group.in_flight -= 1
        group.insert(message)
        self._offer(group_id, group)

    def _forget(self, message: Message) -> None:
        if not message.placed:
            return
        self._grouped -= 1
        if message.state == IN_FLIGHT:
            group_id = message.group or ""
            group = self._groups[group_id]
            group.in_flight -= 1
            self._offer(group_id, group)
        self._admit()

    def _restore_in_flight(self, message: Message) -> None:
        message.placed = True
        self._grouped += 1
        self._groups.setdefault(message.group or "", _Group()).in_flight += 1

    def _check_handle_is_alive(self, message: Message, count: int, handle: str) -> None:
        if message.state != IN_FLIGHT or message.receive_count != count:
            raise invalid_value(handle, "ReceiptHandle", "The receipt handle has expired.")

    def attempt(self, attempt_id: str, visibility_timeout: int, now: float) -> list[Message] | None:
        """Return what the receive with this attempt id took, hidden anew, or None.

        None stands for an attempt that is new, older than 5 minutes, or of which a message was
        deleted, came back, or had its timeout changed since.
        """
        self.advance(now)
        earlier = self._attempts.get(attempt_id)
        if earlier is None or earlier[0] <= now - DEDUPLICATION_SECONDS:
            return None
        if any(
            message.state != IN_FLIGHT or message.receive_count != count or message.due != due
            for message, count, due in earlier[1]
        ):
            return None
        messages = [message for message, _, _ in earlier[1]]
        for message in messages:
            self._hide(message, now + visibility_timeout)
        self._attempts[attempt_id] = (earlier[0], [(m, m.receive_count, m.due) for m in messages])
        return messages

    def remember_attempt(self, attempt_id: str, messages: list[Message], now: float) -> None:
        """Keep what a receive took, for the case that its reply is lost."""
        attempts = self._attempts
        while attempts:
            oldest = next(iter(attempts))
            if attempts[oldest][0] > now - DEDUPLICATION_SECONDS:
                break
            del attempts[oldest]
        attempts.pop(attempt_id, None)
        attempts[attempt_id] = (now, [(m, m.receive_count, m.due) for m in messages])

    def clear(self) -> None:
        super().clear()
        self._late = deque()
        self._backlog = deque()
        self._groups = {}
        self._grouped = 0
        self._free = []
        self._attempts = {}
