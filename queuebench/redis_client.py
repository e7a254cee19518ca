"""Connections to Redis that repeat nothing in silence, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from queuebench.errors import QueueError, Unreachable
from queuebench.settings import without_password

SOCKET_TIMEOUT_SECONDS = 10.0

# Lua's stack takes about 8,000 values: RPUSH them by the thousand.
_PUSH_ONCE = """
local seen = redis.call('GET', KEYS[2])
if seen and tonumber(seen) >= tonumber(ARGV[1]) then return -1 end
for first = 3, #ARGV, 1000 do
  redis.call(ARGV[2], KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', 86400)
return redis.call('LLEN', KEYS[1])
"""


def connect(url: str, connections: int = 64) -> Redis:
    """Return a client whose calls are sent once; it connects when it is used."""
    return Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=5.0,
        max_connections=connections,
    )


@contextmanager
def explained(client: Redis) -> Iterator[None]:
    """Turn redis-py's errors into ours.

    Raises:
        Unreachable: no answer, or a server that is loading, full or read-only for now.
        QueueError: the server refused.
    """
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise QueueError(f"{address(client)} refused the user or password: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError) as error:
        raise Unreachable(f"{address(client)} does not answer: {_first_line(error)}") from error
    except exceptions.OutOfMemoryError as error:
        raise Unreachable(f"{address(client)} is at its maxmemory") from error
    except exceptions.ResponseError as error:
        if "OOM" in str(error):
            raise Unreachable(f"{address(client)} is at its maxmemory") from error
        raise QueueError(f"{address(client)} refused: {_first_line(error)}") from error


def address(client: Redis) -> str:
    """Return `redis://host:port/db`, without a password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    return without_password(
        f"redis://{options.get('host')}:{options.get('port', 6379)}/{options.get('db') or 0}"
    )


class PushOnce:
    """`LPUSH` or `RPUSH` of many values, exactly once however often a batch is repeated.

    A marker of the last batch is written in the same transaction; a batch whose number is not
    above it is dropped. So a send whose reply never came can be repeated without a duplicate.
    """

    def __init__(self, client: Redis, key: str, command: str, marker: str) -> None:
        self._client, self._key, self._command, self._marker = client, key, command, marker
        self._script = client.register_script(_PUSH_ONCE)
        self._last = 0

    def push(self, values: list[bytes], batch: int) -> int:
        """Push and return the list's length, or -1 where the batch was there already.

        Raises:
            Unreachable: it may or may not have been pushed; call again with the same batch.
            QueueError: the server refused.
        """
        if batch < self._last:
            raise ValueError(f"batch {batch} comes after {self._last}: it would be dropped")
        repeated, self._last = batch == self._last, batch
        with explained(self._client):
            length: int = self._script(keys=[self._key, self._marker], args=[batch, self._command, *values])
        if length < 0 and not repeated:
            raise QueueError(f"{address(self._client)} dropped a batch that was never sent: {self._marker}")
        return length


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
