"""kombu's channel, whose queues can be declared on a full server, and may have a quarantine."""

from __future__ import annotations

from time import monotonic
from typing import Any

from kombu.transport import redis as kombu_redis

from queuebench.broker.transport.keys import QUARANTINE
from queuebench.broker.transport.link import NotNow
from queuebench.plumbing.redis_client import is_full

BIND_SECONDS = 5.0


class QueuesChannel(kombu_redis.Channel):
    """kombu's channel, whose queues can be declared on a full server, and may have a quarantine."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unbound: dict[tuple[Any, ...], float] = {}
        super().__init__(*args, **kwargs)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Bind a queue; on a full server later, since this consumer may be the one that empties it."""
        binding = (exchange, routing_key, pattern, queue)
        try:
            super()._queue_bind(*binding)
            self._unbound.pop(binding, None)
        except NotNow as error:
            if not is_full(error):
                raise
            self._unbound[binding] = monotonic() + BIND_SECONDS

    def bind_late(self) -> None:
        """Try again what could not be bound."""
        for binding, at in list(self._unbound.items()):
            if at <= monotonic():
                self._queue_bind(*binding)

    def _quarantine(self, queue: str) -> str:
        return f"{queue}{self.sep}{QUARANTINE}"

    def _size(self, queue: str) -> int:
        # In no transaction, which a full server refuses whatever is in it.
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for step in self.priority_steps:
                pipe.llen(self._q_for_pri(queue, step))
            return sum(map(int, pipe.llen(self._quarantine(queue)).execute()))

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
