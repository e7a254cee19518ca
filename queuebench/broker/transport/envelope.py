"""A message as kombu wraps it in Redis, and the dead letter that it may become."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


def plain_record(payload: bytes, reason: str) -> bytes:
    """Return a dead letter as JSON: the reason and kombu's message as text."""
    return json.dumps({"reason": reason, "payload": payload.decode("utf-8", "backslashreplace")}).encode()


def dead_letter_of(make: Callable[[bytes, str], bytes], payload: bytes, reason: str) -> bytes:
    """Return the dead letter that `make` makes of anything; the plain one if it cannot."""
    try:
        return make(payload, reason)
    except Exception:
        log.exception("dead_letter_record failed")
        return plain_record(payload, reason)


def redelivered(raw: dict[str, Any]) -> dict[str, Any]:
    """Mark kombu's message `raw` as one that was delivered before, as kombu does."""
    raw["headers"]["redelivered"] = True
    raw["properties"]["delivery_info"]["redelivered"] = True
    return raw
