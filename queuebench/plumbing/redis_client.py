"""Connections to Redis that repeat nothing in silence, and errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from queuebench.errors import QueueError, TryLater, Unreachable
from queuebench.plumbing import redis_url
from queuebench.plumbing.printable import safe_text, safe_url

SOCKET_TIMEOUT_SECONDS = 10.0
# Each lane holds one of its own; redis-py's limit of 100 would fail those above it for ever.
MOST_CONNECTIONS = 10_000

# One command of a megabyte costs ten times as much to pack as its bytes in small ones: it outgrows malloc's
# arena, and each page is new.
COMMAND_BYTES = 65_536
ENCODED_AT_ONCE = 50
MARKER_SECONDS = 86_400

# What a server says that will take the same command later: it loads, fails over, is full, busy or alone.
NOT_NOW = (
    "READONLY", "NOREPLICAS", "MISCONF", "BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM",
    "UNBLOCKED",
)  # fmt: skip
# redis-py has a class for some, and takes the code off their text. In a script's or a transaction's error the
# code of the refused command comes further on.
_NOT_NOW_CLASSES = (
    exceptions.ReadOnlyError,
    exceptions.BusyLoadingError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.OutOfMemoryError,
)
_NOT_NOW_TEXT = re.compile(rf"(?:^|: -|because of: )(?:{'|'.join(NOT_NOW)})\b")

OUTPUT_LIMIT = "client-output-buffer-limit"

_Encode = Callable[[Sequence[Any]], Sequence[bytes]]


def connect(url: str) -> Redis:
    """Return a client whose calls are sent once; it connects when it is used.

    Raises:
        SettingsError: the URL cannot be used.
    """
    return Redis.from_url(
        redis_url.parse(url).for_redis_py(),
        retry=Retry(NoBackoff(), 0),
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=5.0,
        protocol=2,  # the newer one begins with HELLO, which some servers lack or refuse
        max_connections=MOST_CONNECTIONS,
    )


def is_not_now(error: BaseException) -> bool:
    """Tell whether a Redis refused only for now, so that it is waited for like one that is away."""
    if isinstance(error, _NOT_NOW_CLASSES):
        return True
    said = str(error).rpartition(" of pipeline caused error: ")[2]  # before it stand its data
    return isinstance(error, exceptions.ResponseError) and _NOT_NOW_TEXT.search(said) is not None


def longest_reply(limits: object) -> int:
    """Return how many bytes of one value a server surely sends; 0: it sets no limit, or does not tell.

    A reply above its `client-output-buffer-limit` is cut off with the connection, however often it is asked
    for. What the server counts is the memory that the reply takes, which is up to a quarter more.

    Args:
        limits: that setting as the server tells it: "normal HARD SOFT SECONDS slave …".
    """
    words = limits.decode(errors="replace").split() if isinstance(limits, bytes) else str(limits).split()
    for kind, hard in zip(words[::4], words[1::4], strict=False):
        if kind == "normal" and hard.isdecimal() and int(hard):
            return max(1024, int(hard) * 3 // 4 - 16_384)
    return 0


def largest_fetched(client: Redis) -> int:
    """Return how many bytes of one value the server surely sends; 0: it has no limit, or does not tell."""
    try:
        limits: Any = client.config_get(OUTPUT_LIMIT)
    except exceptions.ResponseError as error:
        if is_not_now(error):
            raise
        return 0
    return longest_reply(limits.get(OUTPUT_LIMIT, ""))


def is_full(error: BaseException) -> bool:
    """Tell whether a Redis refused for want of memory."""
    full = exceptions.OutOfMemoryError
    return isinstance(error, full) or isinstance(error.__cause__, full) or "OOM" in str(error)


@contextmanager
def explained(client: Redis) -> Iterator[None]:
    """Turn redis-py's errors into ours.

    Raises:
        TryLater: one of `NOT_NOW`.
        Unreachable: no answer.
        QueueError: the server refused.
    """
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise QueueError(f"{address(client)} refused the user or password: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ResponseError) as error:
        said = error.__cause__ if isinstance(error.__cause__, exceptions.ResponseError) else error
        if is_full(said):
            raise TryLater(f"{address(client)} is at its maxmemory") from error
        if is_not_now(said):
            # Another server may have its address by now: who asks again asks over a new connection.
            client.connection_pool.disconnect(inuse_connections=False)
            raise TryLater(f"{address(client)} takes nothing for now: {_first_line(error)}") from error
        if isinstance(error, exceptions.ResponseError):
            raise QueueError(f"{address(client)} refused: {_first_line(error)}") from error
        # What made one connection useless did so to those that wait in the pool.
        client.connection_pool.disconnect(inuse_connections=False)
        raise Unreachable(f"{address(client)} does not answer: {_first_line(error)}") from error


def address(client: Redis) -> str:
    """Return `redis://host:port/db`, or a socket's path, without a password."""
    options: dict[str, Any] = client.connection_pool.connection_kwargs
    if "path" in options:
        return safe_url(f"unix://{options['path']}")
    scheme = "rediss" if "ssl_cert_reqs" in options else "redis"
    return f"{scheme}://{options.get('host')}:{options.get('port', 6379)}/{options.get('db') or 0}"


class Script:
    """A Lua script, called by its digest, and sent whole to a server that has not got it."""

    def __init__(self, client: Redis, source: str) -> None:
        self._client, self._source = client, source
        self._digest = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return self._client.evalsha(self._digest, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return self._client.eval(self._source, len(keys), *keys, *args)


class PushOnce:
    """`LPUSH` or `RPUSH` of many values, exactly once however often a batch is repeated.

    A marker of the last batch is written in the same transaction; a batch whose number is not
    above it is dropped. So a send whose reply never came can be repeated without a duplicate. The
    marker is watched from before the send, so that a transaction that was only delayed is void once
    its repetition has gone through. Used by one thread at a time. Holds a batch's values once more as they
    are encoded: `COMMAND_BYTES` or `ENCODED_AT_ONCE` of them at a time.
    """

    def __init__(self, client: Redis, key: str, command: str, marker: str) -> None:
        self._client, self._key, self._command, self._marker = client, key, command, marker
        self._connection: Any = None
        self._last = self._marked = 0

    def push(self, values: Sequence[Any], batch: int, encode: _Encode | None = None) -> bool:
        """Push and return whether that was needed: False where the batch was there already.

        Args:
            values: what to push, in this order.
            batch: its number; a repetition has the same.
            encode: makes bytes of some values; called as the batch is sent, so that the server is at work on
                the first while the others are made, and none leaves the CPU's cache in between.

        Raises:
            Unreachable: it may or may not have been pushed; call again with the same batch.
            QueueError: the server refused.
        """
        if batch < self._last:
            raise ValueError(f"batch {batch} comes after {self._last}: it would be dropped")
        repeated, self._last = batch == self._last, batch
        with explained(self._client):
            try:
                while True:
                    self._watch()
                    if batch <= self._marked:
                        break
                    if self._transact(values, batch, encode):
                        return True
                    self._drop()
            except BaseException:
                self._drop()
                raise
        if not repeated:
            raise QueueError(f"{address(self._client)} dropped a batch that was never sent: {self._marker}")
        return False

    def _watch(self) -> None:
        """Have a connection that watches the marker, and know what the marker says."""
        if self._connection is not None and _is_usable(self._connection):
            return
        self._drop()
        self._connection = self._client.connection_pool.get_connection()
        self._send(("WATCH", self._marker), ("GET", self._marker))
        seen = self._replies(2)[1]
        self._marked = int(seen or 0)

    def _transact(self, values: Sequence[Any], batch: int, encode: _Encode | None = None) -> bool:
        if encode is None:
            size = max(1, COMMAND_BYTES * len(values) // (sum(map(len, values)) + 1))
        else:
            size = ENCODED_AT_ONCE
        self._send(("MULTI",))
        for first in range(0, len(values), size):
            some = values[first : first + size]
            self._send((self._command, self._key, *(some if encode is None else encode(some))))
        self._send(("SET", self._marker, batch, "EX", MARKER_SECONDS), ("EXEC",), ("WATCH", self._marker))
        done = self._replies(-(-len(values) // size) + 4)[-2]
        if done is None:
            return False
        if refused := next((reply for reply in done if isinstance(reply, exceptions.ResponseError)), None):
            raise refused
        self._marked = batch
        return True

    def _send(self, *commands: tuple[Any, ...]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def _replies(self, count: int) -> list[Any]:
        """Return the replies to so many commands, or raise the first that is an error."""
        replies: list[Any] = []
        refused: exceptions.ResponseError | None = None
        for _ in range(count):
            try:
                replies.append(self._connection.read_response())
            except exceptions.ResponseError as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return replies

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._client.connection_pool.release(connection)


def _is_usable(connection: Any) -> bool:
    """Tell whether an idle connection is still up, as redis-py's pool does before it hands one out."""
    try:
        return not connection.can_read()
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
        return False


def _first_line(error: Exception) -> str:
    return safe_text(str(error) or type(error).__name__).splitlines()[0]
