"""What a consumer holds, and the lease that it holds it under."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from queuebench.broker.transport.envelope import dead_letter_of, redelivered
from queuebench.broker.transport.keys import (
    BURY,
    CLAIM,
    CONDEMNED,
    IDLE,
    IN_FLIGHT,
    KEEP,
    LEASES,
)
from queuebench.broker.transport.link import Link

if TYPE_CHECKING:
    from queuebench.broker.transport.channel import Channel


# A thousand messages of 48 KiB; Python needs some three and a half times as much for them.
MOST_HELD_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 16_384  # below it a message is bounded by how many are held
REAPED_AT_ONCE = 100  # messages given back by one call: other clients have their turn in between

log = logging.getLogger(__name__)


class QoS(virtual.QoS):
    """What a channel has in flight, and the lease that it holds it under.

    Bounded by the prefetch count and, where messages are large, by `MOST_HELD_BYTES` and one claim.
    """

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self.lease = uuid4().hex
        self.held: dict[Any, Any] = {}
        self.settled: deque[Any] = deque()
        self.next_tag = 1
        self.waiting: set[Any] = set()  # held, and not begun
        self.marked: set[Any] = set()  # known to Redis as such
        self.large: dict[Any, int] = {}  # bytes of those held that are not small
        self.on_settled: Callable[[], None] = lambda: None
        self._said_full = False

    def is_full(self) -> bool:
        """Tell whether what is held is all that memory is meant for."""
        # A list: other threads settle meanwhile.
        if not self.large or sum(list(self.large.values())) < MOST_HELD_BYTES:
            return False
        if not self._said_full:
            self._said_full = True
            log.warning(
                "%d MiB of large messages are held, so no more are taken, whatever slots are free",
                MOST_HELD_BYTES >> 20,
            )
        return True

    def _let_go(self, delivery_tag: Any) -> None:
        self.held.pop(delivery_tag, None)
        self.waiting.discard(delivery_tag)
        if self.large:
            self.large.pop(delivery_tag, None)
        self.on_settled()

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self.held) < self.prefetch_count

    def can_consume_max_estimate(self) -> int:
        """Return how many messages may be taken now; without a limit one at a time, as kombu does."""
        return max(self.prefetch_count - len(self.held), 0) if self.prefetch_count else 1

    def append(self, message: Any, delivery_tag: Any, size: int = 0) -> None:
        self.held[delivery_tag] = message
        if size > SMALL_BYTES:
            self.large[delivery_tag] = size

    def get(self, delivery_tag: Any) -> Any:
        return self.held[delivery_tag]

    # First settled, then no longer held: a channel that another thread closes meanwhile finds it in one of
    # the two. Where it finds it in both, the script settles it once, and an acknowledgement comes first.

    def ack(self, delivery_tag: Any) -> None:
        if delivery_tag in self.held:
            if isinstance(delivery_tag, int):
                self.settled.append(delivery_tag)
            self._let_go(delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        if requeue:
            self._give_back(delivery_tag, "LPUSH")
        else:
            self.ack(delivery_tag)

    def _give_back(self, delivery_tag: Any, push: str) -> None:
        message = self.held.get(delivery_tag)
        if message is not None:
            if isinstance(delivery_tag, int):
                self.settled.append((delivery_tag, push, dumps(redelivered(message._raw))))
            self._let_go(delivery_tag)

    def restore_unacked(self, inbox: Sequence[tuple[int, bytes]] = ()) -> list[Any]:
        """Give back all that is held, so that it is the next to be delivered, in the same order."""
        self.settled.extend((tag, "RPUSH", payload) for tag, payload in reversed(inbox))
        for tag in sorted((tag for tag in list(self.held) if isinstance(tag, int)), reverse=True):
            self._give_back(tag, "RPUSH")
        self.held.clear()
        return []

    def restore_unacked_once(self, stderr: Any = None) -> None:
        self._on_collect.cancel()
        if self.channel is not None:
            self.channel.leave()

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the keeper of the lease does it."""

    def take_settled(self) -> list[Any]:
        taken = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self.settled.popleft())
        return taken


class Keeper(threading.Thread):
    """Renews one lease, gives back what the dead held, and flushes what a busy consumer does not."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(name="lease-keeper", daemon=True)
        self.qos = channel.qos
        self.pool = channel.pool
        self.lease_seconds = channel.lease_seconds
        self.names = channel.names
        self.claim_arguments = channel.claim_arguments
        self.max_deaths, self.separator = channel.max_deaths, channel.sep
        self.dead_letters, self.make_record = channel.dead_letters, channel.dead_letter_record
        self.stopped = threading.Event()
        self.orphaned = False
        self.inbox = channel._inbox
        self.waited: set[Any] = set()
        self.marking = threading.RLock()
        self.link: Link | None = None
        self.marker: Link | None = None

    def orphan(self) -> None:
        """Keep the lease for one more term: the connection is lost, but not the tasks that run."""
        self.orphaned = True

    def stop(self) -> None:
        """End at once, but for a call that is under way."""
        self.stopped.set()
        if self is not threading.current_thread():
            self.join(2.0)

    def run(self) -> None:
        renewed = connected = ends = -math.inf
        while not self.stopped.wait(min(1.0, self.lease_seconds / 4)):
            try:
                now = monotonic()
                if self.link is None:
                    self.link = Link(self.pool, max(2.0, self.lease_seconds / 4))
                    connected, renewed, ends = now, -math.inf, now + self.lease_seconds
                if self.orphaned and (now > ends or not self.qos.held):
                    self.settle(self.link, "close")
                    break
                if self.qos.settled:
                    self.settle(self.link)
                waiting = self.qos.waiting.copy()
                with contextlib.suppress(RuntimeError):  # changed meanwhile
                    waiting |= {tag for _, tag, _ in self.inbox if tag is not None}
                self.mark(waiting & self.waited)
                self.waited = waiting
                if now - renewed >= self.lease_seconds / 4:
                    # After a restart of the server every consumer gets the time to renew its lease.
                    self.keep(self.link, reap=now - connected >= self.lease_seconds)
                    renewed = now
                if not self.orphaned:
                    ends = now + self.lease_seconds
            except (RedisError, OSError) as error:
                log.debug("lease %s not renewed: %s", self.qos.lease, error)
                if self.link is not None:
                    self.link.close()
                    self.link = None
        for link in (self.link, self.marker):
            if link is not None:
                link.close()

    def mark(self, tags: set[Any]) -> None:
        """Tell Redis what is held and has not begun, so that a death of this worker is not blamed on it."""
        with self.marking:
            fresh = sorted(tag for tag in tags.copy() - self.qos.marked if isinstance(tag, int))
            self.qos.marked |= set(fresh)
            self._tell_idle("SADD", fresh)
            gone = [tag for tag in self.qos.marked if tag not in self.qos.held and tag not in tags]
            self.qos.marked.difference_update(gone)
            self._tell_idle("SREM", gone)

    def begin(self, tag: Any) -> None:
        """Tell Redis that what was held begins."""
        with self.marking:
            self.qos.marked.discard(tag)
            self._tell_idle("SREM", [tag])

    def _tell_idle(self, command: str, tags: Sequence[Any]) -> None:
        """Change the list of what has not begun; where Redis is away, what begins may go unblamed once."""
        try:
            for first in range(0, len(tags), 500):
                if self.marker is None:
                    self.marker = Link(self.pool, 2.0)
                self.marker.command(command, self.names[IDLE] + self.qos.lease, *tags[first : first + 500])
        except (RedisError, OSError) as error:
            log.debug("lease %s: what has not begun is not told: %s", self.qos.lease, error)
            if self.marker is not None:
                self.marker.close()
                self.marker = None

    def settle(self, link: Link, mode: str = "") -> None:
        """Tell Redis what has been settled since the consumer last did."""
        settled = self.qos.take_settled()
        try:
            keys, arguments = self.claim_arguments(settled, 0, mode, [])
            link.run(CLAIM, keys, *arguments)
        except (RedisError, OSError):
            self.qos.settled.extend(settled)
            raise

    def keep(self, link: Link, reap: bool) -> None:
        """Renew the lease; with `reap`, give back what the dead held and bury the condemned."""
        keys = [self.names[LEASES], self.names[CONDEMNED]]
        arguments = [self.qos.lease, int(self.lease_seconds * 1000), int(reap)]
        arguments += [self.max_deaths, self.separator, self.names[IN_FLIGHT]]
        arguments += [self.names[IDLE], REAPED_AT_ONCE]
        dead, cursor, total = b"", b"0", 0
        while True:
            restored, found, cursor = link.run(KEEP, keys, *arguments, dead, cursor)
            if total and found != dead:
                log.warning("gave back %d messages of a consumer that is gone", total)
                total = 0
            if not found:
                break
            dead, total = found, total + restored
        while reap and (payload := link.command("LINDEX", keys[1], 0)) is not None:
            record = dead_letter_of(self.make_record, payload, f"{self.max_deaths} workers died running it")
            link.run(BURY, [keys[1], self.dead_letters], "", payload, record)
