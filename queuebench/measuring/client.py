"""How a publisher joins a run, leaves it, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from queuebench.errors import QueueBenchError
from queuebench.measuring.records import (
    FORMAT,
    FormatError,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    Range,
    Sum,
    Total,
    decode,
    encode,
)
from queuebench.plumbing.asker import Asker, Unanswered
from queuebench.plumbing.proxies import direct_session

ANSWER_SECONDS = 30.0
PATIENCE_SECONDS = 10.0
MOST_SUMMARY_BYTES = 64 * 2**20


class ProgressRates(Struct, frozen=True):
    """Messages per second of late."""

    published: Total = 0.0
    received: Total = 0.0
    delivered: Total = 0.0


class Progress(Struct, frozen=True):
    """How far a run is; `summary` when it is over."""

    accepted: Sum
    delivered: Sum
    messages: Sum = 0
    queue: Sum | None = None
    celery: Sum | None = None
    dead_letters: Sum = 0
    rates: ProgressRates = ProgressRates()
    seconds_left: float | None = None
    summary: dict[str, Any] | None = None


class MonitorError(QueueBenchError):
    """The monitor does not answer, or refuses."""


class MonitorClient:
    """The monitor at `MONITOR_URL`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asker = Asker(direct_session())

    def join(
        self, process: str, burst: int, messages: int, settings: dict[str, Any], **more: Any
    ) -> JoinAnswer:
        """Join the open run, or open one; `more` is of `JoinRequest`.

        Raises:
            MonitorError: no answer for a while, or a refusal.
        """
        asked = JoinRequest(FORMAT, process, burst, messages, settings, **more)
        try:
            return decode(self._ask("POST", "/join", encode(asked)), JoinAnswer, "its answer")
        except FormatError as error:
            raise MonitorError(f"MONITOR_URL is no monitor of this version: {error}") from None

    def leave(
        self, run: str, process: str, burst: int, accepted: list[Range], messages: int | None = None
    ) -> None:
        """Say that this publisher has ended, which numbers the queue has accepted, and how many it meant.

        Raises:
            MonitorError: no answer for a while, or a refusal.
        """
        asked = LeaveRequest(FORMAT, process, burst, accepted, messages)
        self._ask("POST", f"/runs/{run}/leave", encode(asked))

    def follow(self, run: str) -> Iterator[dict[str, Any]]:
        """Yield the run's progress about twice a second, last with `summary` when it is over.

        Raises:
            MonitorError: no answer for a minute.
        """
        while True:
            progress = self.progress(run)
            yield progress
            if progress.get("summary") is not None:
                return
            time.sleep(0.5)

    def progress(self, run: str) -> dict[str, Any]:
        """Return how far the run is, with `summary` when it is over.

        Raises:
            MonitorError: no answer for a minute, or a refusal.
        """
        answer = self._ask("GET", f"/runs/{run}/progress", patience_seconds=60.0)
        try:
            found: dict[str, Any] = msgspec.to_builtins(decode(answer, Progress, "its answer"))
            return found
        except FormatError as error:
            raise MonitorError(f"MONITOR_URL is no monitor of this version: {error}") from None

    def _ask(
        self, method: str, path: str, data: bytes | None = None, patience_seconds: float | None = None
    ) -> bytes:
        give_up_at = time.monotonic() + (PATIENCE_SECONDS if patience_seconds is None else patience_seconds)
        while True:
            try:
                answer = self._asker.ask(
                    method, self._url + path, data=data, seconds=ANSWER_SECONDS, most_bytes=MOST_SUMMARY_BYTES
                )
                if answer.status < 500:
                    break
                failure = f"answered {answer.status}: {answer.text}"
            except Unanswered as error:
                failure = f"does not answer: {error}"
            if time.monotonic() > give_up_at:
                raise MonitorError(f"the monitor at {self._url} {failure}")
            time.sleep(0.2)
        if answer.status != 200:
            raise MonitorError(f"the monitor at {self._url} refused {path}: {answer.text}")
        return answer.content
