"""The standard queue: best-effort order, and fair to its tenants where messages name one."""

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import Any

from queuebench.local_sqs.message import DELAYED, GONE, IN_FLIGHT, WAITING, Message
from queuebench.local_sqs.queue import Queue

# What makes a tenant (a MessageGroupId) noisy, and what ends it:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues-detailed.html
NOISY_SHARE = 0.1
NOISY_IN_FLIGHT = 30
NOISY_WITHOUT_SENDING_SECONDS = 300
# AWS says "recent" processing time, and no less; a queue that does next to nothing has no noisy tenant
_RECENT_SECONDS = 60.0
_LEAST_BUSY_SECONDS = 30.0

# a message that came back waits until so many others were received, as many as one receive takes
_OTHERS_FIRST = 10


class _Busy:
    """Seconds that messages were in flight, the recent ones; one second of one message counts as one."""

    __slots__ = ("at", "in_flight", "seconds")

    def __init__(self) -> None:
        self.in_flight = 0
        self.seconds = 0.0
        self.at = 0.0

    def add(self, count: int, now: float) -> None:
        """Let that many more be in flight from now on."""
        self.update(now)
        self.in_flight += count

    def update(self, now: float) -> float:
        """Return the seconds as of now."""
        if now > self.at:
            kept = math.exp((self.at - now) / _RECENT_SECONDS)
            self.seconds = self.seconds * kept + self.in_flight * _RECENT_SECONDS * (1 - kept)
            self.at = now
        return self.seconds


class _Lane:
    """The visible messages of one tenant, or those without one, and what the tenant has in flight."""

    __slots__ = ("back", "busy", "is_listed", "is_noisy", "last_sent_at", "ready", "served", "took_back")

    def __init__(self) -> None:
        # (place, message)
        self.ready: deque[tuple[int, Message]] = deque()
        # (place, message, how many this lane had served when it came back)
        self.back: deque[tuple[int, Message, int]] = deque()
        self.busy = _Busy()
        self.last_sent_at = 0.0
        self.served = 0
        self.took_back = False
        self.is_listed = False
        self.is_noisy = False

    def head(self) -> int | None:
        """Return the place of the message that waits longest, or None."""
        ready, back = self.ready, self.back
        while ready and ready[0][1].state != WAITING:
            ready.popleft()[1].placed = False
        while back and back[0][1].state != WAITING:
            back.popleft()[1].placed = False
        if ready and back:
            return min(ready[0][0], back[0][0])
        return ready[0][0] if ready else back[0][0] if back else None

    def forgive(self) -> None:
        """Forget the processing time so far, once the tenant has no backlog."""
        if not self.ready and not self.back:
            self.busy.seconds = 0.0

    def pop(self) -> Message:
        """Take the next message, new ones and those that came back in turns; `head` was not None."""
        ready, back = self.ready, self.back
        is_due = back and not self.took_back and self.served - back[0][2] >= _OTHERS_FIRST
        self.took_back = bool(is_due or not ready)
        message = back.popleft()[1] if self.took_back else ready.popleft()[1]
        message.placed = False
        self.served += 1
        return message


class StandardQueue(Queue):
    """Best-effort order: first in, first out; what comes back comes soon, but is not the next for ever.

    Fair: a MessageGroupId names a tenant. Messages of tenants that are not noisy come first; among noisy
    ones those of the tenant with the fewest in flight. A step costs O(log tenants) + O(noisy tenants),
    however many messages wait.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._reset()
        super().__init__(*args, **kwargs)

    def _reset(self) -> None:
        self._now = 0.0
        self._place_number = 0
        # messages without a tenant: each is its own, so none is ever noisy
        self._plain = _Lane()
        self._lanes: dict[str, _Lane] = {}
        # (place of its head, tenant) of those that are not noisy and may have messages
        self._quiet: list[tuple[int, str]] = []
        self._noisy: dict[str, _Lane] = {}
        self._busy = _Busy()

    def advance(self, now: float) -> None:
        self._now = now
        super().advance(now)

    # Placing

    def _arrive(self, message: Message, now: float, delay_seconds: int) -> None:
        if message.group is not None:
            self._lane(message.group).last_sent_at = now
        if delay_seconds:
            message.state = DELAYED
            message.due = message.due or now + delay_seconds
            self._tracked[message.n] = message
            heappush(self._timers, (message.due, message.n))
            self.delayed += 1
        else:
            self.waiting += 1
            self._place(message)

    def _lane(self, tenant: str) -> _Lane:
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = _Lane()
        return lane

    def _place(self, message: Message) -> None:
        message.placed = True
        self._place_number += 1
        lane = self._plain if message.group is None else self._lane(message.group)
        lane.ready.append((self._place_number, message))
        self._list(message.group, lane)

    def _return(self, message: Message) -> None:
        self._count(message, -1)
        if message.placed:
            return
        message.placed = True
        self._place_number += 1
        lane = self._plain if message.group is None else self._lane(message.group)
        lane.back.append((self._place_number, message, lane.served))
        self._list(message.group, lane)

    def _list(self, tenant: str | None, lane: _Lane) -> None:
        if tenant is not None and not lane.is_listed and not lane.is_noisy:
            place = lane.head()
            if place is not None:
                lane.is_listed = True
                heappush(self._quiet, (place, tenant))

    def _count(self, message: Message, change: int) -> None:
        """Take note of a message that goes into flight (1) or leaves it (-1)."""
        if self._lanes:
            self._busy.add(change, self._now)
            if message.group is not None:
                self._lane(message.group).busy.add(change, self._now)
        else:
            self._busy.in_flight += change

    # Taking

    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        taken: list[Message] = []
        while len(taken) < limit and (message := self._next()) is not None:
            if bury is not None and self._is_worn_out(message):
                bury(message)
                self._remove(message)
                continue
            message.state = IN_FLIGHT
            self._count(message, 1)
            taken.append(message)
        return taken

    def _next(self) -> Message | None:
        """Pop the next message: of a quiet tenant, else of the noisy one with the fewest in flight."""
        plain = self._plain.head()
        if not self._quiet and not self._noisy:
            return None if plain is None else self._plain.pop()
        for tenant, lane in list(self._noisy.items()):
            if lane.head() is None or not self._may_be_noisy(lane):
                self._be_quiet(tenant, lane)
        quiet = self._quiet
        while quiet:
            place, tenant = quiet[0]
            lane = self._lanes[tenant]
            head = lane.head()
            if head is None:
                heappop(quiet)
                lane.is_listed = False
                lane.forgive()
            elif head != place:
                heapreplace(quiet, (head, tenant))
            elif self._is_noisy(lane):
                heappop(quiet)
                lane.is_listed = False
                lane.is_noisy = True
                self._noisy[tenant] = lane
            elif plain is not None and plain < place:
                break
            else:
                return lane.pop()
        if plain is not None:
            return self._plain.pop()
        if not self._noisy:
            return None
        tenant, lane = min(self._noisy.items(), key=lambda item: item[1].busy.in_flight)
        message = lane.pop()
        if lane.head() is None:
            self._be_quiet(tenant, lane)
        return message

    def _be_quiet(self, tenant: str, lane: _Lane) -> None:
        del self._noisy[tenant]
        lane.is_noisy = False
        lane.forgive()
        self._list(tenant, lane)

    def _may_be_noisy(self, lane: _Lane) -> bool:
        return self._now - lane.last_sent_at < NOISY_WITHOUT_SENDING_SECONDS

    def _is_noisy(self, lane: _Lane) -> bool:
        """Tell whether a tenant has too large a share of what is in flight, or of recent processing."""
        if not self._may_be_noisy(lane):
            return False
        in_flight = lane.busy.in_flight
        if in_flight >= NOISY_IN_FLIGHT and in_flight > NOISY_SHARE * self._busy.in_flight:
            return True
        seconds = lane.busy.update(self._now)
        return seconds > max(_LEAST_BUSY_SECONDS, NOISY_SHARE * self._busy.update(self._now))

    def has_deliverable(self) -> bool:
        return self.waiting > 0

    def _release(self, taken: list[Message]) -> None:
        for message in taken:
            message.state = WAITING
            self._count(message, -1)

    def _forget(self, message: Message) -> None:
        if message.state == IN_FLIGHT:
            self._count(message, -1)
        elif message.placed:
            # without a receiver, what expires is let go of here
            message.state = GONE
            (self._plain if message.group is None else self._lane(message.group)).head()

    def _tidy(self) -> None:
        super()._tidy()
        if len(self._lanes) > 2 * (self.waiting + self.in_flight + self.delayed) + 1000:
            self._lanes = {
                tenant: lane
                for tenant, lane in self._lanes.items()
                if lane.is_listed or lane.is_noisy or lane.busy.in_flight or lane.ready or lane.back
            }

    def _restore_in_flight(self, message: Message) -> None:
        if message.group is not None:
            self._lane(message.group)
        self._count(message, 1)

    def _may_change(self, message: Message, count: int) -> bool:
        # an older receipt handle still does it
        return True

    def _check_handle_is_alive(self, message: Message, count: int, handle: str) -> None:
        pass

    def clear(self) -> None:
        super().clear()
        self._reset()
