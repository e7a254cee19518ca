"""A message as kombu wraps it in Redis, and the dead letter that it may become."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from kombu.utils.json import loads

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


class SetAside(ValueError):
    """This stands in the place of a message that is too large to be fetched; the text says where that is."""


def opened(payload: bytes) -> dict[str, Any]:
    """Return kombu's message, with the parts that clients in other languages leave out.

    Raises one of ValueError, TypeError and LookupError if it is none, and SetAside.
    """
    raw: dict[str, Any] = loads(payload.decode())
    if type(set_aside := raw.get("set_aside")) is str:
        raise SetAside(set_aside)
    properties = raw["properties"]
    raw["headers"] = raw.get("headers") or {}
    properties["delivery_info"] = properties.get("delivery_info") or {}
    raw["headers"].keys(), properties["delivery_info"].keys()
    return raw


def redelivered(raw: dict[str, Any]) -> dict[str, Any]:
    """Mark kombu's message `raw` as one that was delivered before, as kombu does."""
    raw["headers"]["redelivered"] = True
    raw["properties"]["delivery_info"]["redelivered"] = True
    return raw
