"""Message ⇄ JSON: what producers in any language put into the queue."""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any, NamedTuple

import orjson

from queuebench.errors import MessageError
from queuebench.plumbing.printable import to_text

_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_HIGHEST_NUMBER = 2**53  # the whole numbers that every JSON library keeps exact
_EARLIEST, _LATEST = 946_684_800.0, 4_102_444_800.0  # 2000 and 2100, in Unix seconds
MAX_BODY_BYTES = 1024 * 1024  # what SQS takes: AWS, "Amazon SQS message quotas"


class Message(NamedTuple):
    """One shipment to make."""

    id: str
    phone: str
    text: str
    run: str | None = None
    number: int | None = None
    intended_at: float | None = None  # Unix seconds
    tenant: str | None = None  # whose it is, of those that share the queue

    @property
    def is_untimed(self) -> bool:
        """Whether it is counted in its run's figures and no more, as what warms a run up."""
        return self.run is not None and self.intended_at is None

    @property
    def task_arguments(self) -> tuple[Any, ...]:
        """What a task is called with: to a worker it is all the same whose message it is."""
        return self[:6]

    def encode(self) -> bytes:
        """Return the message as a producer would have written it."""
        keys = {
            "p": self.phone, "m": self.text, "g": self.tenant, "i": self.number, "r": self.run,
            "t": self.intended_at,
        }  # fmt: skip
        body = {key: value for key, value in keys.items() if value is not None}
        if self.id != run_id_of(self.run, self.number):
            body["id"] = self.id
        return orjson.dumps(body)


def run_id_of(run: str | None, number: int | None) -> str | None:
    """Return the id of message `number` of a run, or None where either is missing."""
    return None if run is None or number is None else f"{run}-{number}"


def decode(body: bytes, received_id: str | None = None) -> Message:
    """Parse one message; its id is `r`-`i`, else its `id`, else `received_id`, else a new one.

    Takes a notification of SNS too, and reads the message in it: without an id of its own its id is SNS's
    MessageId, which stays the same when SNS delivers it twice. A `t` in milliseconds, micro- or
    nanoseconds is told by its size; a number that is no time from 2000 to 2100 stops no message, and
    telemetry leaves it out of the latencies.

    Raises:
        MessageError: the body is not a message; the text is the reason.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MessageError(f"longer than {MAX_BODY_BYTES} bytes")
    keys = _object(body)
    if keys.get("Type") == "Notification" and type(keys.get("Message")) is str and "p" not in keys:
        sns_id = keys.get("MessageId")
        if type(sns_id) is str and sns_id:
            received_id = sns_id
        try:
            keys = _object(keys["Message"].encode("utf-8", "surrogatepass"))
        except MessageError as error:
            raise MessageError(f"in a notification of SNS: {error}") from None
    get = keys.get
    phone, text, run, number, at = get("p"), get("m"), get("r"), get("i"), get("t")
    if type(phone) is not str or not phone or type(text) is not str or not text:
        # What a queue says in the place of a message that cannot be fetched.
        if type(set_aside := get("set_aside")) is str and set_aside:
            raise MessageError(set_aside)
        raise MessageError(_wrong(keys, "p") or _wrong(keys, "m"))
    if run is not None and (type(run) is not str or not run):
        raise MessageError(f"r must be a non-empty string, not {_kind(run)}")
    if number is not None and (type(number) is not int or not 0 <= number <= _HIGHEST_NUMBER):
        raise MessageError(f"i must be a whole number from 0 to 2^53, not {_kind(number)}")
    if at is not None:
        if not isinstance(at, float | int):
            raise MessageError(f"t must be Unix seconds, not {_kind(at)}")
        at = _in_seconds(float(at))
    tenant = get("g")
    if type(tenant) is not str:
        tenant = None
    if run is not None and number is not None:
        return Message(f"{run}-{number}", phone, text, run, number, at, tenant)
    own = get("id")
    if own is not None and (type(own) is not str or not own):
        raise MessageError(f"id must be a non-empty string, not {_kind(own)}")
    return Message(own or received_id or uuid.uuid4().hex, phone, text, run, number, at, tenant)


def place_of(body: bytes) -> tuple[str | None, int | None]:
    """Return the run and number of what is no message, as far as it names them."""
    try:
        keys = _object(body) if len(body) <= MAX_BODY_BYTES else {}
    except MessageError:
        return None, None
    run, number = keys.get("r"), keys.get("i")
    known = type(number) is int and 0 <= number <= _HIGHEST_NUMBER
    if type(run) is not str or not run or not known:
        return None, None
    return run, number


def _object(body: bytes) -> dict[str, Any]:
    try:
        text: bytes | str = to_text(body) if body.startswith(_MARKS) else body
        try:
            keys = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            if "infinity" not in str(error):
                raise
            keys = _with_huge_numbers(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise MessageError(f"not JSON: {error}") from None
    if type(keys) is not dict:
        raise MessageError(f"not a JSON object but {_kind(keys)}")
    return keys


def _with_huge_numbers(text: bytes | str) -> Any:
    """Parse JSON that has a number beyond what a double holds, as the largest that it does."""

    def number(digits: str) -> float:
        return max(-sys.float_info.max, min(float(digits), sys.float_info.max))

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) <= 18 else number(digits)

    def refused(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    parsed = json.loads(text, parse_float=number, parse_int=whole, parse_constant=refused)
    return orjson.loads(orjson.dumps(parsed))  # which refuses lone surrogates


def _in_seconds(at: float) -> float:
    """Return Unix seconds of a time in seconds, milli-, micro- or nanoseconds, or what is none of these."""
    for units in (1.0, 1e3, 1e6, 1e9):
        if _EARLIEST <= at / units < _LATEST:
            return at / units
    return at


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
