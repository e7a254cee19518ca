"""A subscriber that takes no more than so many messages a second: a ceiling that is known.

THROTTLE=300 python -m benchmarks.throttled_subscriber
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from queuebench.pipeline import subscriber
from queuebench.queues import Batch, Queue, open_queue


class Throttle:
    """Lets `per_second` through, over all threads."""

    def __init__(self, per_second: float) -> None:
        self._per_second, self._free_at = per_second, 0.0
        self._lock = threading.Lock()

    def pass_on(self, messages: int) -> None:
        """Wait until so many may pass."""
        with self._lock:
            begins_at = max(time.monotonic(), self._free_at)
            self._free_at = begins_at + messages / self._per_second
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


def main() -> int:
    """Run a subscriber whose queue gives out messages at that rate."""
    throttle = Throttle(float(os.environ["THROTTLE"]))

    def opened(name: str, options: Mapping[str, Any]) -> Queue:
        queue = open_queue(name, options)
        receive = queue.receive

        def slowly(lane: int, wait_seconds: float) -> Batch | None:
            batch = receive(lane, wait_seconds)
            if batch is not None:
                throttle.pass_on(len(batch.bodies))
            return batch

        queue.receive = slowly  # type: ignore[method-assign]
        return queue

    subscriber.open_queue = opened  # type: ignore[attr-defined]
    return subscriber.main([])


if __name__ == "__main__":
    sys.exit(main())
