"""Whether shipments are POSTed side by side, or one at a time because the endpoint takes none."""

from __future__ import annotations

import logging
import threading
import time

from queuebench.pipeline.pauses import pause_seconds

PERMANENT_IN_A_ROW = 100

log = logging.getLogger(__name__)


class Gate:
    """Open, all pass; shut, one at a time does, with pauses that grow, until one is accepted.

    Only what began after the gate was shut opens it: answers to what was under way come in for a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shut = self._trying = False
        self._openings = self._tried = self._permanent = 0
        self._next_at = 0.0

    def enter(self) -> int | None:
        """Return a pass to leave with; None: shut, and it is another's turn, or too early."""
        if not self._shut:
            return self._openings
        with self._lock:
            if not self._shut:
                return self._openings
            if self._trying or time.monotonic() < self._next_at:
                return None
            self._trying = True
            return -1

    def wait_seconds(self) -> float:
        """Return after how long to ask again."""
        return min(1.0, max(0.05, self._next_at - time.monotonic()))

    def accepted_since(self, openings: int) -> bool:
        """Tell whether the gate has opened since `openings` was `self.openings`, and is open."""
        return not self._shut and self._openings != openings

    @property
    def openings(self) -> int:
        """How often it was opened."""
        return self._openings

    def accepted(self, ticket: int) -> None:
        """Leave: the shipment was accepted."""
        if not self._shut:
            self._permanent = 0
        elif ticket < 0:
            with self._lock:
                self._shut = self._trying = False
                self._permanent = self._tried = 0
                self._openings += 1
            log.warning("the endpoint accepts shipments again")

    def failed(self, ticket: int) -> None:
        """Leave: the shipment was not accepted, which says nothing about others."""
        if ticket < 0:
            with self._lock:
                self._pause()

    def refused_caller(self, ticket: int, reason: str) -> None:
        """Leave: the endpoint refuses whoever asks."""
        with self._lock:
            if ticket < 0:
                self._pause()
            elif not self._shut and ticket == self._openings:
                self._close(f"{reason}: it refuses the caller, whatever is sent")

    def refused_shipment(self, ticket: int, reason: str) -> bool:
        """Leave: the endpoint will never take it; False: too many of those, so try it again by itself."""
        with self._lock:
            if ticket < 0:
                self._pause()
                return True
            if self._shut:
                return False
            self._permanent += 1
            if self._permanent >= PERMANENT_IN_A_ROW:
                self._close(f"{PERMANENT_IN_A_ROW} shipments in a row were refused for good, last: {reason}")
            return True

    def _pause(self) -> None:
        self._trying = False
        self._tried += 1
        self._next_at = time.monotonic() + pause_seconds(self._tried)

    def _close(self, why: str) -> None:
        self._shut, self._trying = True, False
        self._tried = 0
        self._pause()
        log.warning("%s; from now on one at a time is tried until one is accepted", why)
