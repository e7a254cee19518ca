"""Connections to Redis that send nothing twice."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from kombu.transport import TRANSPORT_ALIASES
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from queuebench.errors import SettingsError

SCHEME = "leased"  # kombu splits a scheme at "+", so it has none


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


class Link:
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


class Doorbell(Link):
    """A connection on which Redis says that a list which was read and found wanting has changed."""

    def __init__(self, pool: redis.ConnectionPool, reader: Link) -> None:
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


TRANSPORT_ALIASES[SCHEME] = "queuebench.broker.transport.channel:Transport"
