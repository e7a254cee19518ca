"""The FIFO queue: message groups, deduplication, attempts."""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any

from queuebench.local_sqs.errors import invalid_value
from queuebench.local_sqs.limits import CallRate
from queuebench.local_sqs.message import DELAYED, GONE, IN_FLIGHT, WAITING, Message
from queuebench.local_sqs.queue import Queue

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html
DEDUPLICATION_SECONDS = 300

DedupKey = str | tuple[str, str]


class _Group:
    """A message group: its visible messages as a linked list, and those in flight.

    At most one receive's worth of a group, ten messages, is in flight or was received before, so that
    what comes back is put in its place in a few steps.
    """

    __slots__ = ("flight", "head", "is_listed", "tail")

    def __init__(self) -> None:
        self.head: Message | None = None
        self.tail: Message | None = None
        # a heap of (n, message); some may be in flight no more
        self.flight: list[tuple[int, Message]] = []
        self.is_listed = False

    def earliest_in_flight(self) -> Message | None:
        """Return the message in flight that was sent first, or None."""
        flight = self.flight
        while flight and flight[0][1].state != IN_FLIGHT:
            heappop(flight)
        return flight[0][1] if flight else None

    def next_free(self) -> Message | None:
        """Return the first visible message, if no message in flight is ahead of it."""
        self.trim()
        head = self.head
        if head is None:
            return None
        ahead = self.earliest_in_flight()
        return head if ahead is None or head.n < ahead.n else None

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
    """Order within a group; a message in flight locks what is behind it; no duplicates for 5 minutes.

    Groups take turns: one that was served goes last.

    A message passes three stages, each first in, first out: delayed; backlog, when more messages are
    ahead of it than SQS searches for free groups; its group.
    """

    is_fifo = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._late: deque[Message] = deque()
        self._backlog: deque[Message] = deque()
        self._groups: dict[str, _Group] = {}
        self._grouped = 0
        # groups that may have a free message, in the order of their turns
        self._free: deque[str] = deque()
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
        """Give the group its turn if it has a free message; let go of it if it has none at all."""
        if group.is_listed:
            return
        if group.next_free() is not None:
            group.is_listed = True
            self._free.append(group_id)
        elif group.head is None and group.earliest_in_flight() is None:
            self._groups.pop(group_id, None)

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
            group_id = free[0]
            group = self._groups[group_id]
            if group.next_free() is not None:
                return group_id, group
            free.popleft()
            group.is_listed = False
            self._offer(group_id, group)
        return None

    def has_deliverable(self) -> bool:
        return self._first_free() is not None

    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        taken: list[Message] = []
        while len(taken) < limit and (first := self._first_free()) is not None:
            group_id, group = first
            self._free.popleft()
            group.is_listed = False
            # what is taken here does not lock what is behind it for this receive
            ahead = group.earliest_in_flight()
            mine: list[Message] = []
            while len(taken) + len(mine) < limit and (message := group.head) is not None:
                if ahead is not None and message.n > ahead.n:
                    break
                group.pop()
                if message.state == GONE:
                    continue
                if bury is not None and self._is_worn_out(message):
                    bury(message)
                    self._remove(message)
                    continue
                mine.append(message)
            for message in mine:
                message.state = IN_FLIGHT
                heappush(group.flight, (message.n, message))
            taken += mine
            self._offer(group_id, group)
        return taken

    def _release(self, taken: list[Message]) -> None:
        for message in taken:
            message.state = WAITING
            group_id = message.group or ""
            self._offer(group_id, self._groups[group_id])

    def _return(self, message: Message) -> None:
        group_id = message.group or ""
        group = self._groups[group_id]
        group.insert(message)
        self._offer(group_id, group)

    def _forget(self, message: Message) -> None:
        if not message.placed:
            return
        self._grouped -= 1
        was_in_flight, message.state = message.state == IN_FLIGHT, GONE
        if was_in_flight:
            group_id = message.group or ""
            self._offer(group_id, self._groups[group_id])
        else:
            # without a receiver, what expires is let go of here
            self._first_free()
        self._admit()

    def _restore_in_flight(self, message: Message) -> None:
        message.placed = True
        self._grouped += 1
        group = self._groups.setdefault(message.group or "", _Group())
        heappush(group.flight, (message.n, message))

    def _may_change(self, message: Message, count: int) -> bool:
        return message.state == IN_FLIGHT and message.receive_count == count

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
        self._free = deque()
        self._attempts = {}
        self._recent = {}
