"""The POST, and what is done when it fails."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.util import Timeout

from queuebench.errors import QueueBenchError
from queuebench.message import Message
from queuebench.plumbing.proxies import session_for

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0
SAY_EVERY_SECONDS = 5.0
LONGEST_KEY = 2000

log = logging.getLogger(__name__)

# Sends a body with headers and returns the answer's status.
Sender = Callable[[bytes, dict[str, str]], int]
_JSON = {"Content-Type": "application/json"}

# What can stand in a header as it is; '%' is left out so that no two ids become one key.
_HEADER_SAFE = re.compile(r"[!-$&-~]{1,200}")


class NoConnectionError(Exception):
    """Nobody took the connection, so nothing can have arrived."""


class GivenUp(QueueBenchError):
    """A shipment failed as often as it may; the text is the reason."""


class Stopped(QueueBenchError):
    """The worker was told to stop while a shipment was still being tried."""


@dataclass
class Attempt:
    """How one POST went."""

    delivered: bool
    away: bool  # nobody was there to take it: uses up no try
    reason: str


class Pusher:
    """POSTs shipments to one URL, from as many threads as there are slots."""

    def __init__(self, url: str, slots: int, seconds: float, timeout: float, tries: int) -> None:
        self._seconds, self._tries = seconds, tries
        self._send = _sender(url, slots, timeout) if url else None
        self._said_at = -SAY_EVERY_SECONDS
        self.stopping = threading.Event()

    def push(self, message: Message) -> int:
        """Deliver a shipment, trying again with growing pauses, and return how many POSTs it took.

        Raises:
            GivenUp: the last try failed.
            Stopped: the worker is to stop; the shipment is not delivered, or not known to be.
        """
        if self.stopping.is_set():
            raise Stopped("not begun")
        failed = posts = 0
        while True:
            posts += 1
            attempt = self._post(message)
            if attempt.delivered:
                return posts
            self._say(attempt.reason)
            if not attempt.away:
                failed += 1
                if failed >= self._tries:
                    raise GivenUp(f"{attempt.reason} (try {failed} of {self._tries})")
            if self.stopping.wait(pause_seconds(posts)):
                raise Stopped(attempt.reason)

    def _say(self, reason: str) -> None:
        if time.monotonic() - self._said_at > SAY_EVERY_SECONDS:
            self._said_at = time.monotonic()
            log.warning("%s; trying again", reason)

    def _post(self, message: Message) -> Attempt:
        if self._send is None:
            time.sleep(self._seconds)
            return Attempt(True, False, "")
        headers = {"Idempotency-Key": idempotency_key(message.id)}
        if message.intended_at is not None:
            headers["Intended-At"] = repr(message.intended_at)
        body = orjson.dumps({"phone": message.phone, "message": message.text})
        try:
            status = self._send(body, headers)
        except NoConnectionError as error:
            return Attempt(False, True, str(error))
        except (requests.RequestException, HTTPError, OSError) as error:
            return Attempt(False, False, f"the POST failed: {type(error).__name__}: {error}")
        if 200 <= status < 300:
            return Attempt(True, False, "")
        return Attempt(False, status == 503, f"the endpoint answered {status}")


def _sender(url: str, slots: int, read_timeout: float) -> Sender:
    """Return what makes one POST: lean where it can be, an ordinary session behind a proxy.

    Most of `Session.post` is work that is the same for every shipment: merging the environment's
    proxies and CA bundle, preparing URL and headers, cookies, hooks, redirects. Here it is done once.
    """
    session = session_for(url)
    adapter = LeanAdapter(pool_connections=1, pool_maxsize=slots)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    timeout = (CONNECT_TIMEOUT_SECONDS, read_timeout)
    if not session.proxies:
        request = session.prepare_request(requests.Request("POST", url, headers=_JSON, data=b"{}"))
        return adapter.sender(request, session.verify, session.cert, timeout)

    def through_the_proxy(body: bytes, headers: dict[str, str]) -> int:
        try:
            answer = session.post(url, body, headers=_JSON | headers, timeout=timeout, allow_redirects=False)
        except (requests.ConnectTimeout, requests.exceptions.ProxyError) as error:
            raise NoConnectionError(f"no connection: {type(error).__name__}") from error
        return answer.status_code

    return through_the_proxy


class LeanAdapter(HTTPAdapter):
    """An adapter that sends many bodies the way one prepared request is sent."""

    def sender(
        self, request: requests.PreparedRequest, verify: Any, cert: Any, timeout: tuple[float, float]
    ) -> Sender:
        """Return a function that sends bodies as `request` would be sent, through one connection pool."""
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=None, cert=cert)
        assert request.url is not None
        self.cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
        path, common = request.path_url, {**request.headers}
        limits = Timeout(connect=timeout[0], read=timeout[1])

        def send(body: bytes, headers: dict[str, str]) -> int:
            try:
                answer = pool.urlopen(
                    "POST",
                    path,
                    body,
                    {**common, **headers, "Content-Length": str(len(body))},
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=limits,
                    decode_content=False,
                )
            except (NewConnectionError, ConnectTimeoutError) as error:
                raise NoConnectionError(f"no connection: {type(error).__name__}") from error
            return int(answer.status)

        return send


def pause_seconds(posts: int, chance: float | None = None) -> float:
    """Return how long to wait after so many POSTs: doubling, capped, between half and all of it."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(posts - 1, 10))
    return longest * (0.5 + 0.5 * (random.random() if chance is None else chance))


def idempotency_key(message_id: str) -> str:
    """Return the id as a header can carry it; two ids never share a key."""
    if _HEADER_SAFE.fullmatch(message_id):
        return message_id
    quoted = quote(message_id, safe="", errors="surrogatepass")
    if len(quoted) <= LONGEST_KEY:
        return quoted
    return "%sha256-" + hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()
