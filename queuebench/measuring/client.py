"""How a publisher joins a run, leaves it, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
import requests

from queuebench.errors import QueueBenchError
from queuebench.measuring.records import (
    FORMAT,
    FormatError,
    JoinAnswer,
    JoinRequest,
    LeaveRequest,
    Range,
    decode,
    encode,
)
from queuebench.plumbing.proxies import direct_session


class MonitorError(QueueBenchError):
    """The monitor does not answer, or refuses."""


class MonitorClient:
    """The monitor at `MONITOR_URL`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = direct_session()

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
            found = orjson.loads(answer)
            if isinstance(found, dict):
                return found
        except orjson.JSONDecodeError:
            pass
        raise MonitorError("MONITOR_URL is no monitor: its answer is not JSON")

    def _ask(
        self, method: str, path: str, data: bytes | None = None, patience_seconds: float = 10.0
    ) -> bytes:
        give_up_at = time.monotonic() + patience_seconds
        while True:
            try:
                answer = self._session.request(
                    method,
                    self._url + path,
                    data=data,
                    headers={"content-type": "application/json"},
                    timeout=(2.0, 30.0),
                    allow_redirects=False,
                )
                if answer.status_code < 500:
                    break
                failure = f"answered {answer.status_code}: {answer.text[:200]}"
            except requests.RequestException as error:
                failure = f"does not answer: {type(error).__name__}"
            if time.monotonic() > give_up_at:
                raise MonitorError(f"the monitor at {self._url} {failure}")
            time.sleep(0.2)
        if answer.status_code != 200:
            raise MonitorError(f"the monitor at {self._url} refused {path}: {answer.text[:300].strip()}")
        return answer.content
