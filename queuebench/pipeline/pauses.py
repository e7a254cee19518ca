"""How long to wait before the next try."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
# What an endpoint asks for beyond it is no wait but a mistake, or for longer than a run lasts.
LONGEST_RETRY_AFTER_SECONDS = 300.0


def pause_seconds(posts: int, chance: float | None = None) -> float:
    """Return how long to wait after so many POSTs: doubling, capped, between half and all of it."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(posts - 1, 10))
    return longest * (0.5 + 0.5 * (random.random() if chance is None else chance))


def retry_after_seconds(value: str, now: float | None = None) -> float | None:
    """Return what a `Retry-After` header asks for, at most 300 s; None: nothing that can be understood.

    Seconds or a date: RFC 9110, 10.2.3. One that is past is no wait.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), LONGEST_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    return min(max(0.0, at - (time.time() if now is None else now)), LONGEST_RETRY_AFTER_SECONDS)
