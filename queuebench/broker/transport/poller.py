"""Waiting for doorbells, freed credit and broadcasts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from celery.signals import worker_shutting_down
from kombu.transport import redis as kombu_redis

from queuebench.broker.transport.link import PULSE_SECONDS
from queuebench.broker.transport.signals import Deferred, stopping

if TYPE_CHECKING:
    from queuebench.broker.transport.channel import Channel


class Poller(kombu_redis.MultiChannelPoller):
    """Waits for doorbells, for freed credit and for broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.leaves = False
        self._alarm: tuple[socket.socket, socket.socket] | None = None
        self._doorbells: dict[int, Channel] = {}
        self._pulse_at = 0.0

    def wake(self) -> None:
        """End the wait in `get`, from any thread."""
        if self.waiting and self._alarm is not None:
            self.waiting = False
            with contextlib.suppress(OSError):
                self._alarm[1].send(b"!")

    def get(self, callback: Any, timeout: float | None = None) -> None:
        self._in_protected_read = True
        if any(channel.active_queues for channel in list(self._channels)):
            Deferred.consumer = self
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
            if Deferred.consumer is self:
                Deferred.consumer = None
                Deferred.catch_up()

    def _serve(self, timeout: float | None) -> bool:
        consuming = [channel for channel in list(self._channels) if channel.active_queues]
        for channel in consuming:
            self._attach(channel)
        delivered = self._fetch(consuming)
        for channel in list(self._channels):
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)
        if monotonic() >= self._pulse_at:
            # Two that are not answered, and kombu gives a connection for broadcasts up.
            self._pulse_at = monotonic() + PULSE_SECONDS
            self.maybe_check_subclient_health()
        self.waiting = True
        WAITING.add(self)
        # Broadcasts get their turn in a worker that is never idle, too.
        stops = consuming and stopping()
        ready = delivered or stops or self.leaves or any(channel.due() for channel in consuming)
        waits = [self.pulse(channel) for channel in consuming]
        if timeout is not None:
            waits.append(timeout)
        events = self.poller.poll(0 if ready else min(waits, default=None))
        self.waiting = False
        heard = False
        for fd, event in events or []:
            if fd in self._doorbells:
                self._doorbells[fd].hear()
            elif self._alarm is not None and fd == self._alarm[0].fileno():
                self._alarm[0].recv(4096)
            elif self.handle_event(fd, event):
                heard = True
        if stops or self.leaves:
            # kombu would go on waiting here, and Celery's loop not see to what has changed.
            self.leaves = False
            raise TimeoutError
        return bool(delivered or heard or self._fetch(consuming))

    def pulse(self, channel: Channel) -> float:
        """See to it that the channel's connections live; return how long the wait may be."""
        pauses = [channel.refused_for()]
        if channel._doorbell is not None:
            pauses.append(channel._doorbell.pulse())
        elif channel.polls and pauses[0] == PULSE_SECONDS:
            pauses.append(channel.look())
        return min(pauses)

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
        channel.qos.on_settled = self.wake
        if (doorbell := channel.listen()) is not None:
            fd = doorbell.socket.fileno()
            self.poller.register(fd, self.eventflags)
            self._doorbells[fd] = channel

    def discard(self, channel: Channel) -> None:
        self.forget(channel)
        super().discard(channel)

    def forget(self, channel: Channel) -> None:
        """Wait no longer for a channel's doorbell."""
        for fd, owner in list(self._doorbells.items()):
            if owner is channel:
                del self._doorbells[fd]
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self.poller.unregister(fd)

    def close(self) -> None:
        super().close()
        if self._alarm is not None:
            for end in self._alarm:
                end.close()
            self._alarm = None


WAITING: WeakSet[Poller] = WeakSet()


def wake_all(**_: Any) -> None:
    """Have Celery's loop take its turn, so that a stop is seen and credit is used at once."""
    for poller in list(WAITING):
        poller.leaves = True
        poller.wake()


worker_shutting_down.connect(wake_all, weak=False)
