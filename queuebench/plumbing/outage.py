"""Saying once that a server is away, or refuses for now, and once that it is back."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from queuebench.errors import Unreachable

BRIEF_SECONDS = 1.0  # what is well again sooner is not worth a line
PAUSE_SECONDS = 0.5
GIVE_UP_SECONDS = 60.0  # that those wait who have an end

T = TypeVar("T")


class Outage:
    """What a role's threads meet at one server; each names the act that failed, or that went well.

    A server may refuse some acts and not others: it is back when all that failed have gone well again.
    """

    def __init__(self, role: str, server: str) -> None:
        self._role, self._server = role, server
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._well_at = -math.inf
        self._said = False

    def away(self, act: str, error: Exception) -> None:
        """Note that an act failed, to be tried again."""
        with self._lock:
            self._failing.add(act)
            if self._said or time.monotonic() - self._well_at < BRIEF_SECONDS:
                return
            self._said = True
        self._say(f"{error}; trying again")

    def back(self, act: str) -> None:
        """Note that an act went well."""
        if not self._failing:
            self._well_at = time.monotonic()
            return
        with self._lock:
            self._failing.discard(act)
            if self._failing:
                return
            self._well_at = time.monotonic()
            said, self._said = self._said, False
        if said:
            self._say(f"{self._server} is back")

    def _say(self, text: str) -> None:
        print(f"{self._role}: {text}", file=sys.stderr, flush=True)


def persist(
    outage: Outage,
    name: str,
    act: Callable[[], T],
    give_up_seconds: float = math.inf,
    on: type[Unreachable] = Unreachable,
) -> T:
    """Repeat an act, of that name, while its server is away; return what it returns.

    Args:
        outage: who says so.
        name: the act's.
        act: what is done.
        give_up_seconds: after how long it is no use any more.
        on: `TryLater`, to wait only for a server that answers and refuses for now.

    Raises:
        Unreachable: it was away for too long.
    """
    give_up_at = time.monotonic() + give_up_seconds
    while True:
        try:
            done = act()
        except on as error:
            if time.monotonic() > give_up_at:
                raise
            outage.away(name, error)
            time.sleep(PAUSE_SECONDS)
        else:
            outage.back(name)
            return done
