"""A kombu transport over Redis that loses no message of a killed worker, and costs a third of the CPU.

kombu's own pops a message and records it as unacknowledged in two steps: a worker killed in between loses
it. Here one script pops as many messages as there is credit, records them as in flight under the consumer's
lease, and carries the acknowledgements that came in since. What a dead consumer held goes back when its
lease runs out. Producers, control commands and events are kombu's, unchanged, and so is what waits in Redis.

Tested with kombu 5.7.0, on whose internals it builds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from queue import Empty
from time import monotonic, sleep
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4
from weakref import WeakSet

import redis
from celery.concurrency import solo
from celery.signals import worker_ready, worker_shutting_down
from celery.worker import state as worker_state
from celery.worker.request import Request as CeleryRequest
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps, loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from queuebench.errors import SettingsError

SCHEME = "leased"  # kombu splits a scheme at "+", so it has none
LEASE_SECONDS = 12.0
MAX_DEATHS = 5
TRIAL_SECONDS = 30.0
COALESCE_SECONDS = 0.01
TURN_SECONDS = 0.1
FETCH_MAX = 1000
PRIORITY_STEPS = tuple(kombu_redis.PRIORITY_STEPS)
SEPARATOR = kombu_redis.Channel.sep
QUARANTINE = "quarantine"
LEASES, CONDEMNED, IN_FLIGHT = "_leased.leases", "_leased.condemned", "_leased.flight."

log = logging.getLogger(__name__)


def url(redis_url: str) -> str:
    """Return the broker URL that makes Celery reach `redis_url` through this transport.

    Takes redis://, rediss:// (the certificate is verified unless the URL says otherwise) and
    redis+socket:// as Celery does.

    Raises SettingsError for any other scheme.
    """
    parts = urlsplit(redis_url)
    if parts.scheme == "rediss":
        query = parts.query if "ssl_cert_reqs" in parts.query else f"{parts.query}&ssl_cert_reqs=required"
        return urlunsplit(parts._replace(scheme=SCHEME, query=query.lstrip("&")))
    if parts.scheme in ("redis", "redis+socket"):
        return redis_url.replace("redis", SCHEME, 1)
    raise SettingsError(
        f"a Celery broker URL starts with redis://, rediss:// or redis+socket://, not {parts.scheme!r}://"
    )


def celery_settings(redis_url: str, slots: int, **transport_options: Any) -> dict[str, Any]:
    """Return the Celery settings that go with this transport, for a worker of `slots` tasks at once."""
    return {
        "broker_url": url(redis_url),
        "broker_transport_options": transport_options,
        # A task is in flight until it has ended; one whose pool process was killed goes back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # One that a cold shutdown cut off goes back, too.
        "task_annotations": {"*": {"Request": f"{__name__}:Request"}},
        # Credit that a finished task frees is used at once, so there is nothing to gain from hoarding.
        "worker_concurrency": slots,
        "worker_prefetch_multiplier": 1,
        # A broker that is away is waited for, however long; and tasks that ran meanwhile are acknowledged
        # afterwards, so that there is nothing to slow down for.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_enable_prefetch_count_reduction": False,
        # Under gevent each greenlet would build a result backend of its own: a fifth of a task's CPU.
        "result_backend": None,
        "task_ignore_result": True,
        "result_backend_thread_safe": True,
    }


def backlog(client: redis.Redis, queue: str = "celery", prefix: str = "") -> tuple[int, int]:
    """Return how many messages wait in `queue`, and how many are in flight at all consumers.

    `prefix` is the transport option `global_keyprefix`. One call, whose cost does not grow with the backlog.
    """
    lists = [prefix + queue + (f"{SEPARATOR}{step}" if step else "") for step in PRIORITY_STEPS]
    keys = [prefix + LEASES, prefix + CONDEMNED, *lists, f"{prefix}{queue}{SEPARATOR}{QUARANTINE}"]
    waiting, in_flight = client.eval(_BACKLOG, len(keys), *keys, prefix + IN_FLIGHT)
    return waiting, in_flight


def plain_record(payload: bytes, reason: str) -> bytes:
    """Return a dead letter as JSON: the reason and kombu's message as text."""
    return json.dumps({"reason": reason, "payload": payload.decode("utf-8", "backslashreplace")}).encode()


def _record(make: Callable[[bytes, str], bytes], payload: bytes, reason: str) -> bytes:
    """Return the dead letter that `make` makes of anything; the plain one if it cannot."""
    try:
        return make(payload, reason)
    except Exception:
        log.exception("dead_letter_record failed")
        return plain_record(payload, reason)


def _redelivered(raw: dict[str, Any]) -> dict[str, Any]:
    """Mark kombu's message `raw` as one that was delivered before, as kombu does."""
    raw["headers"]["redelivered"] = True
    raw["properties"]["delivery_info"]["redelivered"] = True
    return raw


def _script(name: str) -> str:
    folder = files(__package__)
    return (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()


_CLAIM, _KEEP, _BURY, _ACQUIT, _BACKLOG = map(_script, ("claim", "keep", "bury", "acquit", "backlog"))


class _Link:
    """One connection to Redis that runs scripts and never sends anything twice by itself."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        options = {**pool.connection_kwargs, "protocol": 2, "health_check_interval": 0, "retry": None}
        self.connection = pool.connection_class(**options)
        self._shas: dict[str, str] = {}
        self.connection.connect()

    def command(self, *args: Any) -> Any:
        self.connection.send_command(*args)
        return self.connection.read_response()

    def run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        if script not in self._shas:
            self._shas[script] = self.command("SCRIPT", "LOAD", script)
        try:
            return self.command("EVALSHA", self._shas[script], len(keys), *keys, *args)
        except NoScriptError:
            return self.command("EVAL", script, len(keys), *keys, *args)

    def close(self) -> None:
        self.connection.disconnect()


class _Doorbell(_Link):
    """A connection on which Redis says that a list which was read and found wanting has changed."""

    def __init__(self, pool: redis.ConnectionPool, reader: _Link) -> None:
        super().__init__(pool)
        client_id = self.command("CLIENT", "ID")
        self.command("SUBSCRIBE", "__redis__:invalidate")
        # NOLOOP: what this consumer pops itself is no news to it.
        reader.command("CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "NOLOOP")
        self.socket = self.connection._sock
        self.socket.setblocking(False)

    def answer(self) -> None:
        """Take in the rings so far; raise ConnectionError if the line is dead."""
        with contextlib.suppress(BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            while True:
                if not self.socket.recv(65536):
                    raise RedisConnectionError("Redis closed the connection that announces new messages")


class QoS(virtual.QoS):
    """What a channel has in flight, and the lease that it holds it under."""

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self.lease = uuid4().hex
        self.held: dict[Any, Any] = {}
        self.settled: deque[Any] = deque()
        self.next_tag = 1
        self.on_settled: Callable[[], None] = lambda: None

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self.held) < self.prefetch_count

    def can_consume_max_estimate(self) -> int:
        """Return how many messages may be taken now; without a limit one at a time, as kombu does."""
        return max(self.prefetch_count - len(self.held), 0) if self.prefetch_count else 1

    def append(self, message: Any, delivery_tag: Any) -> None:
        self.held[delivery_tag] = message

    def get(self, delivery_tag: Any) -> Any:
        return self.held[delivery_tag]

    # First settled, then no longer held: a channel that another thread closes meanwhile finds it in one of
    # the two. Where it finds it in both, the script settles it once, and an acknowledgement comes first.

    def ack(self, delivery_tag: Any) -> None:
        if delivery_tag in self.held:
            if isinstance(delivery_tag, int):
                self.settled.append(delivery_tag)
            self.held.pop(delivery_tag, None)
            self.on_settled()

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        if requeue:
            self._give_back(delivery_tag, "LPUSH")
        else:
            self.ack(delivery_tag)

    def _give_back(self, delivery_tag: Any, push: str) -> None:
        message = self.held.get(delivery_tag)
        if message is not None:
            if isinstance(delivery_tag, int):
                self.settled.append((delivery_tag, push, dumps(_redelivered(message._raw))))
            self.held.pop(delivery_tag, None)
            self.on_settled()

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


class _Keeper(threading.Thread):
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
        self.link: _Link | None = None

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
                    self.link = _Link(self.pool)
                    connected, renewed, ends = now, -math.inf, now + self.lease_seconds
                if self.orphaned and (now > ends or not self.qos.held):
                    self.settle(self.link, "close")
                    break
                if self.qos.settled:
                    self.settle(self.link)
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
        if self.link is not None:
            self.link.close()

    def settle(self, link: _Link, mode: str = "") -> None:
        """Tell Redis what has been settled since the consumer last did."""
        settled = self.qos.take_settled()
        try:
            keys, arguments = self.claim_arguments(settled, 0, mode, [])
            link.run(_CLAIM, keys, *arguments)
        except (RedisError, OSError):
            self.qos.settled.extend(settled)
            raise

    def keep(self, link: _Link, reap: bool) -> None:
        """Renew the lease; with `reap`, give back what the dead held and bury the condemned."""
        keys = [self.names[LEASES], self.names[CONDEMNED]]
        arguments = [self.qos.lease, int(self.lease_seconds * 1000), int(reap)]
        arguments += [self.max_deaths, self.separator, self.names[IN_FLIGHT]]
        while (restored := link.run(_KEEP, keys, *arguments)) >= 0:
            log.warning("gave back %d messages of a consumer that is gone", restored)
        while reap and (payload := link.command("LINDEX", keys[1], 0)) is not None:
            record = _record(self.make_record, payload, f"{self.max_deaths} workers died running it")
            link.run(_BURY, [keys[1], self.dead_letters], "", payload, record)


class Channel(kombu_redis.Channel):
    """kombu's Redis channel, whose consumers pop and record in one step."""

    QoS = QoS  # type: ignore[assignment]

    lease_seconds = LEASE_SECONDS
    max_deaths = MAX_DEATHS
    dead_letters = "dead_letters"
    dead_letter_record: Callable[[bytes, str], bytes] = staticmethod(plain_record)
    # Without them a peer that vanished without a word is waited for without end.
    socket_timeout = 10.0  # type: ignore[assignment]
    socket_connect_timeout = 5.0  # type: ignore[assignment]
    socket_keepalive = True  # type: ignore[assignment]

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
        self._link: _Link | None = None
        self._doorbell: _Doorbell | None = None
        self._keeper: _Keeper | None = None
        self._rang = True
        self._last_claim = -math.inf
        self._draining_since: float | None = None
        self._trial: set[int] = set()
        self._trial_since = 0.0
        self.broken = False
        super().__init__(*args, **kwargs)
        self.QoS = QoS  # there is no turning acknowledgements off
        if self.max_deaths < 3:
            raise SettingsError("max_deaths: at least 3 (two deliveries as usual, then one alone)")
        self.names = {name: self.global_keyprefix + name for name in (LEASES, CONDEMNED, IN_FLIGHT)}

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
        if self._inbox:
            return True
        qos = self.qos
        return bool(qos.settled) or (self._rang and self._wanted() > 0)

    def fetch(self) -> int:
        """Deliver what has arrived, as far as there is credit; return how many messages that was."""
        if not _stopping() and not self._inbox and self.due():
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
        while self._inbox and not _stopping() and monotonic() - began < TURN_SECONDS:
            # It leaves the inbox when it is somewhere else: what raises in between does not lose it.
            queue, tag, payload = self._inbox[0]
            if queue not in self._callbacks or queue not in self._active_queues:
                self._return(queue, tag, payload)
                self._inbox.popleft()
                continue
            message = self._open(queue, tag, payload)
            self._inbox.popleft()
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
                self._link_up().run(_ACQUIT, [self._flight], *self._trial)
                self._trial.clear()
            self._rang = True
        if self._draining_since is not None and not self.qos.settled and self._drain_ends() > monotonic():
            return 0
        if not self.active_queues or not self.qos.can_consume():
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
            raw = loads(payload.decode())
            if tag is not None:
                raw["properties"]["delivery_tag"] = tag
            message = self.Message(_redelivered(raw) if "deaths" in raw else raw, channel=self)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            self._bury(tag, payload, f"not a message of kombu's: {type(error).__name__}: {error}")
            return None
        if tag is not None:
            self.qos.append(message, tag)
        return message

    def _bury(self, tag: int | None, payload: bytes, reason: str) -> None:
        if tag is None:
            log.error("discarded a message that needs no acknowledgement: %s", reason)
            return
        record = _record(self.dead_letter_record, payload, reason)
        self._link_up().run(_BURY, [self._flight, self.dead_letters], tag, "", record)

    def _return(self, queue: str, tag: int | None, payload: bytes) -> None:
        """Put back what was popped for a consumer that has been cancelled since."""
        if tag is not None:
            self.qos.settled.append((tag, "RPUSH", payload))

    # The connection

    @property
    def _flight(self) -> str:
        return self.names[IN_FLIGHT] + str(self.qos.lease)

    def _link_up(self) -> _Link:
        if self._link is None:
            self._link = _Link(self.pool)
        return self._link

    def listen(self) -> _Doorbell:
        """Return the doorbell, connected."""
        if self._doorbell is None:
            self._doorbell = _Doorbell(self.pool, self._link_up())
            self._rang = True
        return self._doorbell

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
        keys = [self.names[LEASES], self._flight]
        keys += [f"{prefix}{queue}{self.sep}{QUARANTINE}" for queue in queues]
        keys += [prefix + self._q_for_pri(queue, pri) for pri in self.priority_steps for queue in queues]
        group = 1 if self.max_deaths == 3 else max(1, math.isqrt(self.qos.prefetch_count))
        fair = "1" if self.queue_order_strategy == "round_robin" and len(queues) > 1 else "0"
        arguments = [
            self.qos.lease, int(self.lease_seconds * 1000), mode, want, self.qos.next_tag, len(queues), fair,
            group, len(acks), len(requeues), *acks,
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
            self._keeper = _Keeper(self)
            self._keeper.start()
        settled = [] if unrecorded else qos.take_settled()
        keys, arguments = self.claim_arguments(settled, want, mode, queues)
        try:
            reply = link.run(_CLAIM, keys, *arguments)
        except (RedisError, OSError):
            qos.settled.extend(settled)
            raise
        self._last_claim = monotonic()
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
            first = qos.next_tag
            self._inbox.extend((queue, first + i, payload) for i, (queue, payload) in enumerate(taken))
            qos.next_tag += len(taken)
            if state == 1:
                self._draining_since = self._draining_since or monotonic()
            else:
                self._draining_since = None
            if state == 2:
                self._trial, self._trial_since = set(range(first, qos.next_tag)), monotonic()
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
                self._link.run(_CLAIM, keys, *arguments)
            except (RedisError, OSError) as error:
                log.warning("what this consumer held goes back when its lease has run out: %s", error)
        self._inbox.clear()
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

    # Queues

    def _quarantine(self, queue: str) -> str:
        return f"{queue}{self.sep}{QUARANTINE}"

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client:
            return int(super()._size(queue) + client.llen(self._quarantine(queue)))

    def _purge(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            size, _ = pipe.llen(self._quarantine(queue)).delete(self._quarantine(queue)).execute()
        return int(super()._purge(queue) + size)

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, *args, **kwargs)
        with self.conn_or_acquire(client=kwargs.get("client")) as client:
            client.delete(self._quarantine(queue))

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self._size(queue))


def _stopping() -> bool:
    """Return whether this process is a Celery worker that was told to stop, or has a signal to see to."""
    if _Deferred.pending:
        return True
    stop, terminate = worker_state.should_stop, worker_state.should_terminate
    return (stop is not None and stop is not False) or (terminate is not None and terminate is not False)


class _Poller(kombu_redis.MultiChannelPoller):
    """Waits for doorbells, for freed credit and for broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = False
        self._alarm: tuple[socket.socket, socket.socket] | None = None
        self._doorbells: dict[int, Channel] = {}

    def wake(self) -> None:
        """End the wait in `get`, from any thread."""
        if self.waiting and self._alarm is not None:
            self.waiting = False
            with contextlib.suppress(OSError):
                self._alarm[1].send(b"!")

    def get(self, callback: Any, timeout: float | None = None) -> None:
        self._in_protected_read = True
        if any(channel.active_queues for channel in list(self._channels)):
            _Deferred.consumer = self
        try:
            try:
                self.maybe_refresh_binding_expiry()
                if not self._serve(timeout):
                    raise Empty
            except TimeoutError:
                raise
            except kombu_redis.Transport.connection_errors:
                # The tasks that run go on running, so they must not be given back by closing the channel.
                for channel in self._channels:
                    channel.broken = True
                raise
        finally:
            self._in_protected_read = False
            while self.after_read:
                self.after_read.pop()()
            if _Deferred.consumer is self:
                _Deferred.consumer = None
                _Deferred.catch_up()

    def _serve(self, timeout: float | None) -> bool:
        consuming = [channel for channel in list(self._channels) if channel.active_queues]
        for channel in consuming:
            self._attach(channel)
        delivered = self._fetch(consuming)
        for channel in list(self._channels):
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)
        self.waiting = True
        _WAITING.add(self)
        # Broadcasts get their turn in a worker that is never idle, too.
        stopping = consuming and _stopping()
        ready = delivered or stopping or any(channel.due() for channel in consuming)
        events = self.poller.poll(0 if ready else timeout)
        self.waiting = False
        heard = False
        for fd, event in events or []:
            if fd in self._doorbells:
                self._doorbells[fd].hear()
            elif self._alarm is not None and fd == self._alarm[0].fileno():
                self._alarm[0].recv(4096)
            elif self.handle_event(fd, event):
                heard = True
        if stopping:
            raise TimeoutError
        return bool(delivered or heard or self._fetch(consuming))

    def _fetch(self, channels: Iterable[Channel]) -> int:
        return sum([channel.fetch() for channel in channels])

    def _attach(self, channel: Channel) -> None:
        if channel._doorbell is not None:
            return
        if self._alarm is None:
            self._alarm = socket.socketpair()
            for end in self._alarm:
                end.setblocking(False)
            self.poller.register(self._alarm[0], self.eventflags)
        fd = channel.listen().socket.fileno()
        self.poller.register(fd, self.eventflags)
        self._doorbells[fd] = channel
        channel.qos.on_settled = self.wake

    def discard(self, channel: Channel) -> None:
        for fd, owner in list(self._doorbells.items()):
            if owner is channel:
                del self._doorbells[fd]
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self.poller.unregister(fd)
        super().discard(channel)

    def close(self) -> None:
        super().close()
        if self._alarm is not None:
            for end in self._alarm:
                end.close()
            self._alarm = None


_WAITING: WeakSet[_Poller] = WeakSet()


def _wake_all(**_: Any) -> None:
    """End the waits, so that a worker that is told to stop stops at once."""
    for poller in list(_WAITING):
        poller.wake()


worker_shutting_down.connect(_wake_all, weak=False)


class _Deferred:
    """A signal handler that waits until the consumer has no message in its hands.

    Celery's own run wherever the signal finds the main thread, wait for the pool there, and may raise.
    Between a message and its task, kombu would take what they raise for the sign of a message that cannot
    be decoded, and Celery would acknowledge that one: lost. In a greenlet of the pool, or in the middle of
    handing it a task, they would wait for themselves.
    """

    consumer: ClassVar[_Poller | None] = None
    pending: ClassVar[deque[tuple[_Deferred, int]]] = deque()

    def __init__(self, handler: Callable[[int, Any], Any]) -> None:
        self.handler, self.pid = handler, os.getpid()

    def __call__(self, number: int, frame: Any) -> None:
        if self.consumer is None or self.pid != os.getpid():
            self.run(number, frame)
        else:
            self.pending.append((self, number))
            self.consumer.wake()

    def run(self, number: int, frame: Any = None) -> None:
        try:
            self.handler(number, frame)
        finally:
            self.install()  # Celery's handlers replace each other

    @classmethod
    def catch_up(cls) -> None:
        """Run what has been deferred."""
        while cls.pending:
            deferred, number = cls.pending.popleft()
            deferred.run(number)

    @classmethod
    def install(cls) -> None:
        """Defer the signals that stop a worker, where it has the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, cls):
                with contextlib.suppress(ValueError):
                    signal.signal(number, cls(handler))


def _defer_signals(sender: Any, **_: Any) -> None:
    """Defer them in a worker that is ready, unless its tasks run in the hands of the consumer."""
    if not isinstance(sender.pool, solo.TaskPool):
        _Deferred.install()


worker_ready.connect(_defer_signals, weak=False)


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with leases."""

    Channel = Channel
    # The worker's loop without kombu's hub serves threads, greenlets and processes alike, and no slower.
    implements = kombu_redis.Transport.implements.extend(asynchronous=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()  # type: ignore[assignment]
        self.polling_interval = None


class Request(CeleryRequest):  # type: ignore[misc]
    """A task request that a cold shutdown does not lose.

    One that it ended is not acknowledged, which Celery's gevent pool would do. One that it cannot end, in a
    thread, is waited for.
    """

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        with contextlib.suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)

    def acknowledge(self) -> None:
        if not self._already_cancelled:
            super().acknowledge()


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
