"""How a publisher joins a run, leaves it, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson
import requests

from queuebench.errors import QueueBenchError
from queuebench.plumbing.proxies import direct_session


class MonitorError(QueueBenchError):
    """The monitor does not answer, or refuses."""


class MonitorClient:
    """The monitor at `MONITOR_URL`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = direct_session()

    def join(self, process: str, burst: int, messages: int, settings: dict[str, Any]) -> dict[str, Any]:
        """Join the open run, or open one: `run_id`, the `first` number that is ours, what waits already.

        Raises:
            MonitorError: no answer for a while.
        """
        return self._ask(
            "POST",
            "/join",
            {"process": process, "burst": burst, "messages": messages, "settings": settings},
        )

    def leave(self, run: str, process: str, burst: int, accepted: list[list[int]]) -> None:
        """Say that this publisher has ended, and which numbers the queue has accepted.

        Raises:
            MonitorError: no answer for a while.
        """
        self._ask("POST", f"/runs/{run}/leave", {"process": process, "burst": burst, "accepted": accepted})

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
            MonitorError: no answer for a minute.
        """
        return self._ask("GET", f"/runs/{run}/progress", patience_seconds=60.0)

    def _ask(
        self, method: str, path: str, body: Any = None, patience_seconds: float = 10.0
    ) -> dict[str, Any]:
        give_up_at = time.monotonic() + patience_seconds
        while True:
            try:
                data = None if body is None else orjson.dumps(body)
                answer = self._session.request(method, self._url + path, data=data, timeout=(2.0, 30.0))
                if answer.status_code < 500:
                    break
                failure = f"answered {answer.status_code}: {answer.text[:200]}"
            except requests.RequestException as error:
                failure = f"does not answer: {type(error).__name__}"
            if time.monotonic() > give_up_at:
                raise MonitorError(f"the monitor at {self._url} {failure}")
            time.sleep(0.2)
        if answer.status_code != 200:
            raise MonitorError(f"the monitor at {self._url} refused {path}: {answer.text[:200]}")
        result: dict[str, Any] = orjson.loads(answer.content)
        return result
