"""Message ⇄ JSON: what producers in any language put into the queue."""

from __future__ import annotations

import uuid
from typing import NamedTuple

import orjson

from queuebench.errors import MessageError

MAX_BODY_BYTES = 1024 * 1024  # what SQS takes: AWS, "Amazon SQS message quotas"


class Message(NamedTuple):
    """One shipment to make."""

    id: str
    phone: str
    text: str
    run: str | None = None
    number: int | None = None
    intended_at: float | None = None  # Unix seconds

    def encode(self) -> bytes:
        """Return the message as a producer would have written it."""
        keys = {"p": self.phone, "m": self.text, "i": self.number, "r": self.run, "t": self.intended_at}
        body = {key: value for key, value in keys.items() if value is not None}
        if self.id != run_id_of(self.run, self.number):
            body["id"] = self.id
        return orjson.dumps(body)


def run_id_of(run: str | None, number: int | None) -> str | None:
    """Return the id of message `number` of a run, or None where either is missing."""
    return None if run is None or number is None else f"{run}-{number}"


def decode(body: bytes, received_id: str | None = None) -> Message:
    """Parse one message; its id is `r`-`i`, else its `id`, else `received_id`, else a new one.

    Raises:
        MessageError: the body is not a message; the text is the reason.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MessageError(f"longer than {MAX_BODY_BYTES} bytes")
    try:
        keys = orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise MessageError(f"not JSON: {error}") from None
    if type(keys) is not dict:
        raise MessageError(f"not a JSON object but {_kind(keys)}")
    get = keys.get
    phone, text, run, number, at = get("p"), get("m"), get("r"), get("i"), get("t")
    if type(phone) is not str or not phone or type(text) is not str or not text:
        raise MessageError(_wrong(keys, "p") or _wrong(keys, "m"))
    if run is not None and (type(run) is not str or not run):
        raise MessageError(f"r must be a non-empty string, not {_kind(run)}")
    if number is not None and (type(number) is not int or number < 0):
        raise MessageError(f"i must be a whole number from 0, not {_kind(number)}")
    if at is not None:
        if type(at) not in (float, int) or at < 0:
            raise MessageError(f"t must be Unix seconds, not {_kind(at)}")
        at = float(at)
    if run is not None and number is not None:
        return Message(f"{run}-{number}", phone, text, run, number, at)
    own = get("id")
    if own is not None and (type(own) is not str or not own):
        raise MessageError(f"id must be a non-empty string, not {_kind(own)}")
    return Message(own or received_id or uuid.uuid4().hex, phone, text, run, number, at)


def _wrong(keys: dict[str, object], key: str) -> str:
    if key not in keys:
        return f"{key} is missing"
    if keys[key] == "":
        return f"{key} is empty"
    if not isinstance(keys[key], str):
        return f"{key} must be a string, not {_kind(keys[key])}"
    return ""


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
