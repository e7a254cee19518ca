"""kombu's Redis channel, whose consumers pop and record in one step."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, sleep
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.imports import symbol_by_name
from kombu.utils.json import dumps
from redis.exceptions import RedisError, ResponseError

from queuebench.broker.transport.envelope import (
    SetAside,
    dead_letter_of,
    opened,
    plain_record,
    redelivered,
)
from queuebench.broker.transport.keys import (
    ACQUIT,
    BURY,
    CLAIM,
    CONDEMNED,
    IDLE,
    IN_FLIGHT,
    LEASES,
    QUARANTINE,
    SET_ASIDE,
)
from queuebench.broker.transport.lease import Keeper, QoS
from queuebench.broker.transport.link import PULSE_SECONDS, Doorbell, Link, NotNow, patient
from queuebench.broker.transport.poller import Poller
from queuebench.broker.transport.queues import QueuesChannel
from queuebench.broker.transport.signals import stopping
from queuebench.errors import SettingsError
from queuebench.plumbing.printable import safe_url
from queuebench.plumbing.redis_client import is_full

LEASE_SECONDS = 12.0
MAX_DEATHS = 5
TRIAL_SECONDS = 30.0
COALESCE_SECONDS = 0.01
TURN_SECONDS = 0.1
FETCH_MAX = 1000
REFUSED_SECONDS = 0.5
POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


class Channel(QueuesChannel):
    """kombu's Redis channel, whose consumers pop and record in one step."""

    QoS = QoS  # type: ignore[assignment]

    lease_seconds = LEASE_SECONDS
    max_deaths = MAX_DEATHS
    dead_letters = "dead_letters"
    dead_letter_record: Callable[[bytes, str], bytes] = staticmethod(plain_record)
    polls = False  # some servers refuse to tell of changes: they are asked instead
    # Without them a peer that vanished without a word is waited for without end.
    socket_timeout = 5.0  # type: ignore[assignment]
    socket_connect_timeout = 5.0  # type: ignore[assignment]
    socket_keepalive = True  # type: ignore[assignment]
    health_check_interval = 5

    from_transport_options = (  # type: ignore[assignment]
        *kombu_redis.Channel.from_transport_options,
        "lease_seconds",
        "max_deaths",
        "dead_letters",
        "dead_letter_record",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._callbacks: dict[str, tuple[Callable[[Any], Any], bool]] = {}
        self._inbox: deque[tuple[str, int | None, bytes]] = deque()
        self._link: Link | None = None
        self._doorbell: Doorbell | None = None
        self._keeper: Keeper | None = None
        self._rang = True
        self._last_claim = -math.inf
        self._draining_since: float | None = None
        self._trial: set[int] = set()
        self._trial_since = 0.0
        self._refused_until = 0.0
        self._refused = self._later = False
        self._largest = 0
        self.broken = False
        super().__init__(*args, **kwargs)
        self.QoS = QoS  # there is no turning acknowledgements off
        if isinstance(self.dead_letter_record, str):
            self.dead_letter_record = symbol_by_name(self.dead_letter_record)
        if self.max_deaths < 3:
            raise SettingsError("max_deaths: at least 3 (two deliveries as usual, then one alone)")
        self.names = {
            name: self.global_keyprefix + name for name in (LEASES, CONDEMNED, IN_FLIGHT, IDLE, SET_ASIDE)
        }

    # Consumers

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        self._callbacks[queue] = (callback, no_ack)
        self._rang = True
        return super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        self._claim([queue], 1, unrecorded=no_ack)
        while self._inbox:
            message = self._open(*self._inbox.popleft())
            if message is not None:
                return message
        return None

    def basic_recover(self, requeue: bool = False) -> Any:
        result = super().basic_recover(requeue)
        self._claim([], 0)
        return result

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        super().basic_reject(delivery_tag, requeue=requeue)

    def due(self) -> bool:
        """Return whether `fetch` has something to do."""
        if self.refused_for() < PULSE_SECONDS:
            return False
        if self._inbox:
            return True
        qos = self.qos
        return bool(qos.settled) or (self._rang and self._wanted() > 0)

    def fetch(self) -> int:
        """Deliver what has arrived, as far as there is credit; return how many messages that was.

        A server that refuses for now is asked again later.
        """
        if self.refused_for() < PULSE_SECONDS:
            return 0
        try:
            if self._unbound:
                self.bind_late()
            delivered = self._fetch()
            if self._later and self._keeper is not None:
                self._keeper.mark(self.qos.waiting)
            self._later = False
        except NotNow as error:
            self._put_off(error)
            return 0
        return delivered

    def _put_off(self, error: NotNow) -> None:
        """Leave a server alone that refuses for now, and then ask whoever has its address by then."""
        self._refused_until, self._rang = monotonic() + REFUSED_SECONDS, True
        if not self._refused:
            log.warning("the broker takes nothing for now (%s); trying again until it does", error)
        self._refused = True
        self.connection.cycle.forget(self)
        self._hang_up()

    def refused_for(self) -> float:
        """Return how long to leave a server alone that refuses for now; without one a pulse's pause."""
        left = self._refused_until - monotonic()
        return left if left > 0 else PULSE_SECONDS

    def _fetch(self) -> int:
        if not stopping() and not self._inbox and self.due():
            self._wait_for_company()
            queues = self._queue_cycle.consume(len(self.active_queues))
            acked = [queue for queue in queues if not self._callbacks[queue][1]]
            unacked = [queue for queue in queues if self._callbacks[queue][1]]
            wanted = self._wanted() if acked else 0
            if wanted or unacked:
                self._rang = False
            if wanted or self.qos.settled:
                self._claim(acked, wanted)
            if unacked and not self._inbox:
                self._claim(unacked, 1, unrecorded=True)
        delivered, began = 0, monotonic()
        # Where delivering is running, as in the solo pool, broadcasts and signals get their turn in between.
        while self._inbox and not stopping() and monotonic() - began < TURN_SECONDS:
            # It leaves the inbox when it is somewhere else: what raises in between does not lose it.
            queue, tag, payload = self._inbox[0]
            if queue not in self._callbacks or queue not in self._active_queues:
                self._return(queue, tag, payload)
                self._inbox.popleft()
                continue
            message = self._open(queue, tag, payload)
            self._inbox.popleft()
            self.begin(tag)
            if message is None:
                continue
            delivered += 1
            self._queue_cycle.rotate(queue)
            self._callbacks[queue][0](message)
        return delivered

    def _wanted(self) -> int:
        """Return how many messages to ask for now."""
        if self._trial:
            self._trial.intersection_update(self.qos.held)
            if self._trial and monotonic() - self._trial_since < TRIAL_SECONDS:
                return 0
            if self._trial:
                self._link_up().run(ACQUIT, [self._flight], *self._trial)
                self._trial.clear()
            self._rang = True
        if self._draining_since is not None and not self.qos.settled and self._drain_ends() > monotonic():
            return 0
        if not self.active_queues or not self.qos.can_consume() or self.qos.is_full():
            return 0
        return min(int(self.qos.can_consume_max_estimate()), FETCH_MAX)

    def _drain_ends(self) -> float:
        """Return when waiting for this consumer to be empty, for a trial, has been long enough."""
        return (self._draining_since or 0.0) + self.lease_seconds

    def _wait_for_company(self) -> None:
        """Let some more acknowledgements come in before the next call, but not for long.

        One call for each of 1,000 slots that become free one after the other would cost more than the tasks.
        """
        enough = max(1, self.qos.prefetch_count // 16)
        if self._rang and self._wanted() >= enough:
            return
        wait = self._last_claim + COALESCE_SECONDS - monotonic()
        if wait > 0:
            sleep(wait)

    def _open(self, queue: str, tag: int | None, payload: bytes) -> Any:
        """Return the message, held until it is settled; None if it is none, and now a dead letter."""
        try:
            raw = opened(payload)
            if tag is not None:
                raw["properties"]["delivery_tag"] = tag
            message = self.Message(redelivered(raw) if "deaths" in raw else raw, channel=self)
        except SetAside as error:
            self._bury(tag, payload, str(error))
            return None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            self._bury(tag, payload, f"not a message of kombu's: {type(error).__name__}: {error}")
            return None
        if tag is not None:
            self.qos.append(message, tag, len(payload))
        return message

    def bury(self, message: Any, reason: str) -> None:
        """Make a dead letter of a message in flight of which nothing can be made."""
        self._bury(message.delivery_tag, dumps(message._raw).encode(), reason)

    def hold(self, tag: Any, at_once: bool) -> None:
        """Note that a message is held and has not begun; `at_once`: that will last."""
        self.qos.waiting.add(tag)
        self._later |= at_once

    def begin(self, tag: Any) -> None:
        """Note that a message begins: what its worker dies of may be it from now on."""
        self.qos.waiting.discard(tag)
        if tag in self.qos.marked and (keeper := self._keeper) is not None:
            keeper.begin(tag)

    def _bury(self, tag: int | None, payload: bytes, reason: str) -> None:
        if tag is None:
            log.error("discarded a message that needs no acknowledgement: %s", reason)
            return
        record = dead_letter_of(self.dead_letter_record, payload, reason)
        self._link_up().run(BURY, [self._flight, self.dead_letters], tag, "", record)

    def _return(self, queue: str, tag: int | None, payload: bytes) -> None:
        """Put back what was popped for a consumer that has been cancelled since."""
        if tag is not None:
            self.qos.settled.append((tag, "RPUSH", payload))

    # The connection

    @property
    def _flight(self) -> str:
        return self.names[IN_FLIGHT] + str(self.qos.lease)

    def _link_up(self) -> Link:
        if self._link is None:
            link = Link(self.pool)
            # Asked with each connection: that a reply was too large may be why the last one is gone.
            self._largest = link.longest_reply()
            if self._doorbell is not None:
                self._doorbell.watch(link)
            self._link = link
        return self._link

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous)
        params["protocol"] = 2  # the newer one begins with HELLO, which some servers lack or refuse
        params["connection_class"] = patient(params["connection_class"])
        return params

    def refusal(self) -> NotNow | None:
        """Return what a server says that takes no writes for now; one that is full takes some."""
        link = Link(self.pool)
        try:
            link.command("MULTI")
            link.command("ZREM", self.names[LEASES], "")
        except NotNow as error:
            return None if is_full(error) else error
        finally:
            link.close()
        return None

    def listen(self) -> Doorbell | None:
        """Return the doorbell, connected; None where the server refuses to have one."""
        if self._doorbell is None and not self.polls and self.refused_for() >= PULSE_SECONDS:
            try:
                self._doorbell = Doorbell(self.pool, self._link_up())
            except NotNow as error:
                self._put_off(error)
            except ResponseError as error:
                # For good, and said once: the same server refuses it to every connection.
                Channel.polls = True
                log.warning(
                    "the broker refuses to tell of new messages (%s); asking for them every %g s instead",
                    error,
                    POLL_SECONDS,
                )
            self._rang = True
        return self._doorbell

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)
        except NotNow:
            # Who refuses to say that it lives does live.
            self._in_listen, c.health_check_response_counter = c.connection, 0
            return None

    def look(self) -> float:
        """Have the lists read when it is time to, where no doorbell rings; return how long to wait."""
        left = self._last_claim + POLL_SECONDS - monotonic()
        if left > 0:
            return left
        self._rang = True
        return 0.0 if self.due() else POLL_SECONDS

    def hear(self) -> None:
        """Note that one of the lists has changed."""
        if self._doorbell is not None:
            self._doorbell.answer()
            self._rang = True

    def claim_arguments(
        self, settled: Iterable[Any], want: int, mode: str, queues: Sequence[str]
    ) -> tuple[list[str], list[Any]]:
        acks = [item for item in settled if isinstance(item, int)]
        requeues = [item for item in settled if not isinstance(item, int)]
        prefix = self.global_keyprefix
        keys = [self.names[LEASES], self._flight, self.names[IDLE] + str(self.qos.lease)]
        keys.append(self.names[SET_ASIDE])
        keys += [f"{prefix}{queue}{self.sep}{QUARANTINE}" for queue in queues]
        keys += [prefix + self._q_for_pri(queue, pri) for pri in self.priority_steps for queue in queues]
        group = 1 if self.max_deaths == 3 else max(1, math.isqrt(self.qos.prefetch_count))
        fair = "1" if self.queue_order_strategy == "round_robin" and len(queues) > 1 else "0"
        arguments = [
            self.qos.lease, int(self.lease_seconds * 1000), mode, want, self.qos.next_tag, len(queues), fair,
            group, self._largest, len(acks), len(requeues), *acks,
        ]  # fmt: skip
        for requeue in requeues:
            arguments.extend(requeue)
        return keys, arguments

    def _claim(self, queues: Sequence[str], want: int, unrecorded: bool = False) -> None:
        """Settle what is settled and take up to `want` messages into the inbox."""
        link, qos = self._link_up(), self.qos
        mode = "unrecorded" if unrecorded else ""
        if self._draining_since is not None and self._drain_ends() <= monotonic():
            mode = "trial"
        if want and not unrecorded and self._keeper is None:
            self._keeper = Keeper(self)
            self._keeper.start()
        settled = [] if unrecorded else qos.take_settled()
        keys, arguments = self.claim_arguments(settled, want, mode, queues)
        # A number is never used twice, also where the reply that would tell which are taken is lost.
        first = qos.next_tag
        qos.next_tag += want
        try:
            reply = link.run(CLAIM, keys, *arguments)
        except (RedisError, OSError) as error:
            qos.settled.extend(settled)
            if not isinstance(error, NotNow):
                if not unrecorded:
                    # What it took all the same goes back as it is recorded.
                    qos.settled.extend((tag, "RPUSH", "") for tag in reversed(range(first, first + want)))
                link.close()
                self._link = None
            raise
        self._last_claim = monotonic()
        if self._refused:
            self._refused = False
            log.warning("the broker takes commands again")
        if not want:
            # The doorbell is silent about what this connection itself put back.
            self._rang |= any(not isinstance(item, int) for item in settled)
            return
        state, left = reply[:2]
        taken = [
            (queues[index - 1], payload) for index, payload in zip(reply[2::2], reply[3::2], strict=True)
        ]
        if unrecorded:
            self._inbox.extend((queue, None, payload) for queue, payload in taken)
        else:
            self._inbox.extend((queue, first + i, payload) for i, (queue, payload) in enumerate(taken))
            if state == 1:
                self._draining_since = self._draining_since or monotonic()
            else:
                self._draining_since = None
            if state == 2:
                self._trial, self._trial_since = set(range(first, first + len(taken))), monotonic()
                log.warning("%d messages whose worker died twice are tried by themselves", len(taken))
        self._rang |= left > 0

    def leave(self) -> None:
        """Settle everything and give the rest back; without a connection leave that to the lease."""
        keeper, self._keeper = self._keeper, None
        qos = self.qos
        if self.broken:
            if keeper is not None:
                keeper.orphan()
        elif self._link is not None:
            if keeper is not None:
                keeper.stop()
            qos.restore_unacked(inbox=[(tag, payload) for _, tag, payload in self._inbox if tag is not None])
            keys, arguments = self.claim_arguments(qos.take_settled(), 0, "close", [])
            try:
                self._link.run(CLAIM, keys, *arguments)
            except (RedisError, OSError) as error:
                log.warning("what this consumer held goes back when its lease has run out: %s", error)
        self._inbox.clear()
        self._hang_up()

    def _hang_up(self) -> None:
        for link in (self._link, self._doorbell):
            if link is not None:
                link.close()
        self._link = self._doorbell = None

    def close(self) -> None:
        if not self.closed:
            self.leave()
        super().close()

    def _after_fork(self) -> None:
        # Closing the parent's TLS session or lease is not for the child.
        self._link = self._doorbell = self._keeper = None
        super()._after_fork()


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with leases."""

    Channel = Channel
    # The worker's loop without kombu's hub serves threads, greenlets and processes alike, and no slower.
    implements = kombu_redis.Transport.implements.extend(asynchronous=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()  # type: ignore[assignment]
        self.polling_interval = None
        # A socket's URL alone is shown as its own scheme has it; kombu asks for that in this way.
        self.can_parse_url = bool(getattr(self.client, "uri_prefix", None))

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        shown = f"redis+{uri}"
        return shown if include_password else safe_url(shown)
