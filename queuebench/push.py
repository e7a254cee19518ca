"""The POST, and what is done when it fails."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote

import orjson
import requests
from requests.adapters import HTTPAdapter

from queuebench.errors import QueueBenchError
from queuebench.message import Message

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0

# What can stand in a header as it is; '%' is left out so that no two ids become one key.
_HEADER_SAFE = re.compile(r"[!-$&-~]{1,200}")


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
        self._url, self._seconds, self._tries = url, seconds, tries
        self._timeout = (CONNECT_TIMEOUT_SECONDS, timeout)
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=slots)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self.stopping = threading.Event()

    def push(self, message: Message) -> int:
        """Deliver a shipment, trying again with growing pauses, and return how many POSTs it took.

        Raises:
            GivenUp: the last try failed.
            Stopped: the worker is to stop; the shipment is not delivered, or not known to be.
        """
        failed = posts = 0
        while True:
            posts += 1
            attempt = self._post(message)
            if attempt.delivered:
                return posts
            if not attempt.away:
                failed += 1
                if failed >= self._tries:
                    raise GivenUp(f"{attempt.reason} (try {failed} of {self._tries})")
            if self.stopping.wait(pause_seconds(posts)):
                raise Stopped(attempt.reason)

    def _post(self, message: Message) -> Attempt:
        if not self._url:
            time.sleep(self._seconds)
            return Attempt(True, False, "")
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key(message.id)}
        if message.intended_at is not None:
            headers["Intended-At"] = repr(message.intended_at)
        body = orjson.dumps({"phone": message.phone, "message": message.text})
        try:
            answer = self._session.post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except (requests.ConnectTimeout, requests.exceptions.ProxyError) as error:
            return Attempt(False, True, type(error).__name__)
        except requests.ConnectionError as error:
            return Attempt(False, _never_sent(error), "connection failed: " + type(error).__name__)
        except requests.RequestException as error:
            return Attempt(False, False, type(error).__name__)
        if 200 <= answer.status_code < 300:
            return Attempt(True, False, "")
        return Attempt(False, answer.status_code == 503, f"the endpoint answered {answer.status_code}")


def _never_sent(error: requests.ConnectionError) -> bool:
    """Tell whether no connection could be made, so that nothing can have arrived."""
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    return type(reason).__name__ in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")


def pause_seconds(posts: int, chance: float | None = None) -> float:
    """Return how long to wait after so many POSTs: doubling, capped, between half and all of it."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(posts - 1, 10))
    return longest * (0.5 + 0.5 * (random.random() if chance is None else chance))


def idempotency_key(message_id: str) -> str:
    """Return the id as a header can carry it."""
    return (
        message_id
        if _HEADER_SAFE.fullmatch(message_id)
        else quote(message_id, safe="", errors="surrogatepass")[:2000]
    )
