"""The POST, what its answers mean, and what is done when it fails; docs/endpoint.md has the table."""

from __future__ import annotations

import enum
import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson

from queuebench.errors import QueueBenchError
from queuebench.message import Message
from queuebench.pipeline.gate import Gate
from queuebench.pipeline.pauses import pause_seconds, retry_after_seconds
from queuebench.plumbing.http_post import Answer, NoConnectionError, Poster, PostError
from queuebench.plumbing.printable import printable, safe_url

SAY_EVERY_SECONDS = 5.0
LONGEST_KEY = 2000

log = logging.getLogger(__name__)

# What can stand in a header as it is; '%' is left out so that no two ids become one key.
_HEADER_SAFE = re.compile(r"[!-$&-~]{1,200}")


class GivenUp(QueueBenchError):
    """A shipment will not be tried again; the text is the reason."""


class Stopped(QueueBenchError):
    """The worker was told to stop while a shipment was still being tried."""


class Verdict(enum.Enum):
    """What an answer, or that there is none, says."""

    ACCEPTED = enum.auto()
    AWAY = enum.auto()  # nobody took the connection: nothing was sent, no try is used up
    BUSY = enum.auto()  # the endpoint, or what is before it, can't now: no try is used up
    FAILED = enum.auto()  # this try
    PERMANENT = enum.auto()  # this shipment, whenever it is sent
    CALLER = enum.auto()  # whoever sends: no try is used up


_BUSY = frozenset({429, 502, 503, 504})
_CALLER = frozenset({401, 403, 407})
_TRY_AGAIN = frozenset({408, 425})


def verdict_of(status: int) -> Verdict:
    """Return what a status says."""
    if 200 <= status < 300:
        return Verdict.ACCEPTED
    if status in _BUSY:
        return Verdict.BUSY
    if status in _CALLER:
        return Verdict.CALLER
    if 300 <= status < 500 and status not in _TRY_AGAIN:
        return Verdict.PERMANENT
    return Verdict.FAILED


@dataclass(slots=True)
class Course:
    """How a shipment went: when it began, and how long each POST took, 8 bytes a try."""

    began_at: float = 0.0  # Unix seconds
    began: float = 0.0  # of perf_counter
    post_seconds: list[float] = field(default_factory=list)


class Pusher:
    """POSTs shipments to one URL, from any number of threads, `slots` at once; holds one body for each."""

    def __init__(self, url: str, slots: int, seconds: float, timeout: float, tries: int) -> None:
        """Prepare; nothing connects.

        Raises:
            QueueBenchError: the URL, the environment's proxy or CA bundle cannot be used.
        """
        self._seconds, self._tries = seconds, tries
        self._poster = Poster(url, timeout) if url else None
        # What is bounded is the POSTs under way, however many tasks there are and come in one.
        self._slots = threading.Semaphore(slots)
        self._gate = Gate()
        self._said_at = -SAY_EVERY_SECONDS
        self.stopping = threading.Event()

    def check(self) -> None:
        """Raise where TLS can't work.

        Raises:
            QueueBenchError: the endpoint's certificate is not to be trusted, or it speaks no TLS.
        """
        if self._poster is not None:
            self._poster.check()

    def push(self, message: Message, course: Course, waits: Callable[[], object] = lambda: None) -> None:
        """Deliver a shipment, in a slot while it is POSTed and in none while it waits for its next try.

        Args:
            message: what to deliver.
            course: is told how it goes.
            waits: called before each wait for a next try that is this shipment's own.

        Raises:
            GivenUp: the last try failed, or the endpoint will never take it.
            Stopped: the worker is to stop; the shipment is not delivered, or not known to be.
        """
        failed = waited = 0
        refused_at: int | None = None
        while True:
            with self._slots:
                if self.stopping.is_set():
                    raise Stopped("not begun")
                ticket = self._gate.enter()
                if ticket is not None:
                    if not course.began:
                        course.began_at, course.began = time.time(), time.perf_counter()
                    verdict, reason, pause = Verdict.FAILED, "", None
                    try:
                        verdict, reason, pause = self._post(message, course)
                    finally:
                        # In any case, or a gate that is shut would wait for this one for ever.
                        if verdict is Verdict.ACCEPTED:
                            self._gate.accepted(ticket)
                        elif verdict is not Verdict.PERMANENT and verdict is not Verdict.CALLER:
                            self._gate.failed(ticket)
                    if verdict is Verdict.ACCEPTED:
                        return
            if ticket is None:
                self._wait(self._gate.wait_seconds() * (1.0 + random.random() / 4), "not tried")
                continue
            if verdict is Verdict.PERMANENT:
                if self._gate.refused_shipment(ticket, reason):
                    raise GivenUp(reason)
                continue
            if verdict is Verdict.CALLER:
                # One that is refused again while others are accepted speaks for itself alone.
                if refused_at is None or not self._gate.accepted_since(refused_at):
                    refused_at = self._gate.openings
                    self._gate.refused_caller(ticket, reason)
                    continue
                self._gate.failed(ticket)
            self._say(reason)
            if verdict is Verdict.FAILED:
                failed += 1
                if failed >= self._tries:
                    raise GivenUp(f"{reason} (try {failed} of {self._tries})")
            waited += 1
            if verdict is not Verdict.AWAY:
                waits()
            self._wait(pause_seconds(waited) if pause is None else pause, reason)

    def _wait(self, seconds: float, reason: str) -> None:
        if self.stopping.wait(seconds):
            raise Stopped(reason)

    def _say(self, reason: str) -> None:
        if time.monotonic() - self._said_at > SAY_EVERY_SECONDS:
            self._said_at = time.monotonic()
            log.warning("%s; trying again", reason)

    def _post(self, message: Message, course: Course) -> tuple[Verdict, str, float | None]:
        """POST once; return what that says, the reason, and the pause that the endpoint asks for."""
        began = time.perf_counter()
        try:
            if self._poster is None:
                time.sleep(self._seconds)
                return Verdict.ACCEPTED, "", None
            headers = f"Idempotency-Key: {idempotency_key(message.id)}\r\n"
            if message.intended_at is not None:
                headers += f"Intended-At: {message.intended_at!r}\r\n"
            body = orjson.dumps({"phone": message.phone, "message": message.text})
            answer = self._poster.post(body, headers)
        except NoConnectionError as error:
            return Verdict.AWAY, str(error), None
        except PostError as error:
            return Verdict.FAILED, f"the POST failed: {error}", None
        finally:
            course.post_seconds.append(time.perf_counter() - began)
        if 200 <= answer.status < 300:
            return Verdict.ACCEPTED, "", None
        verdict = verdict_of(answer.status)
        pause = None
        if verdict is Verdict.BUSY and (asked := retry_after_seconds(answer.retry_after)) is not None:
            # Not all at once, and not at once where it asks for no wait at all.
            pause = max(asked, pause_seconds(1)) * (1.0 + 0.1 * random.random())
        return verdict, _reason(answer), pause


def _reason(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        where = f" to {printable(safe_url(answer.location))}" if answer.location else ""
        return f"the endpoint answered {answer.status}, a redirect{where}: PUSH_URL must be the final address"
    return f"the endpoint answered {answer.status}"


def idempotency_key(message_id: str) -> str:
    """Return the id as a header can carry it; two ids never share a key."""
    if _HEADER_SAFE.fullmatch(message_id):
        return message_id
    quoted = quote(message_id, safe="", errors="surrogatepass")
    if len(quoted) <= LONGEST_KEY:
        return quoted
    return "%sha256-" + hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).hexdigest()
