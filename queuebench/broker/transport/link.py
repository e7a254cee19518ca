"""Connections to Redis that send nothing twice."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from time import monotonic
from typing import Any

import redis
from kombu.connection import resolve_aliases
from kombu.transport import TRANSPORT_ALIASES
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from queuebench.plumbing import redis_url
from queuebench.plumbing.redis_client import OUTPUT_LIMIT, is_not_now, longest_reply

SCHEME = "leased"  # kombu splits a scheme at "+", so it has none
PULSE_SECONDS = 2.0  # a connection that only listens is asked so often whether it lives
DEAF_SECONDS = 6.0  # and is given up when it said nothing for so long


def url(broker_url: str) -> str:
    """Return the broker URL that makes Celery reach `broker_url` through this transport.

    Raises SettingsError for one that redis-py and kombu would not read alike.
    """
    return redis_url.parse(broker_url).for_kombu(SCHEME)


@cache
def _digest(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


class NotNow(RedisConnectionError):
    """The server refuses for now: it is to be waited for like one that is away."""


def patient(connection_class: type[Any]) -> type[Any]:
    """Return redis-py's connection class with what is refused for now raised as `NotNow`."""

    class Patient(connection_class):  # type: ignore[misc]
        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().read_response(*args, **kwargs)
            except redis.ResponseError as error:
                if is_not_now(error):
                    raise NotNow(str(error)) from error
                raise

    return Patient


class Link:
    """One connection to Redis that runs scripts and never sends anything twice by itself."""

    def __init__(self, pool: redis.ConnectionPool, timeout_seconds: float | None = None) -> None:
        options = {**pool.connection_kwargs, "protocol": 2, "health_check_interval": 0, "retry": None}
        if timeout_seconds is not None:
            options["socket_timeout"] = timeout_seconds
        self.connection = pool.connection_class(**options)
        self.connection.connect()

    def command(self, *args: Any) -> Any:
        self.connection.send_command(*args)
        return self.connection.read_response()

    def run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        try:
            return self.command("EVALSHA", _digest(script), len(keys), *keys, *args)
        except NoScriptError:
            return self.command("EVAL", script, len(keys), *keys, *args)

    def longest_reply(self) -> int:
        """Return how many bytes of one message the server surely sends; 0: it has no limit, or tells none."""
        try:
            told = self.command("CONFIG", "GET", OUTPUT_LIMIT)
        except redis.ResponseError:
            return 0
        return longest_reply(told[1]) if len(told) == 2 else 0

    def close(self) -> None:
        self.connection.disconnect()


class Doorbell(Link):
    """A connection on which Redis says that a list which was read and found wanting has changed.

    It says nothing when the connection that did the reading is gone. So it is asked whether it lives, and
    its answer counts as a ring: the reader reads, and finds out whether itself does.
    """

    def __init__(self, pool: redis.ConnectionPool, reader: Link) -> None:
        super().__init__(pool)
        self._id = self.command("CLIENT", "ID")
        self.command("SUBSCRIBE", "__redis__:invalidate")
        self.watch(reader)
        self.socket = self.connection._sock
        self.socket.setblocking(False)
        self._heard = self._asked = monotonic()

    def watch(self, reader: Link) -> None:
        """Ring when something changes that `reader` has read."""
        # NOLOOP: what this consumer pops itself is no news to it.
        reader.command("CLIENT", "TRACKING", "ON", "REDIRECT", self._id, "NOLOOP")

    def answer(self) -> None:
        """Take in the rings so far; raise ConnectionError if the line is dead."""
        with contextlib.suppress(BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            while True:
                if not self.socket.recv(65536):
                    raise RedisConnectionError("Redis closed the connection that announces new messages")
                self._heard = monotonic()

    def pulse(self) -> float:
        """Ask whether the line is alive, when it is time to; return the seconds until it is time again.

        Raises ConnectionError if it is not.
        """
        now = monotonic()
        if now - self._asked >= PULSE_SECONDS:
            # A process that was stopped for a while has not listened yet.
            if self._asked - self._heard >= DEAF_SECONDS:
                raise RedisConnectionError("the connection that announces new messages is dead")
            with contextlib.suppress(BlockingIOError, InterruptedError, ssl.SSLWantReadError):
                self.connection.send_command("PING")
            self._asked = now
        return self._asked + PULSE_SECONDS - now


TRANSPORT_ALIASES[SCHEME] = "queuebench.broker.transport.channel:Transport"
# What it is called where it is only shown: tools that look into a broker know a Redis by that name.
resolve_aliases[SCHEME] = "redis"
