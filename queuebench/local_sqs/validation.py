"""What a request must look like: types, ranges, characters, message attributes and their MD5."""

import re
import struct
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from hashlib import md5
from typing import Any, TypeVar

from queuebench.local_sqs.errors import (
    SqsError,
    invalid_parameter,
    invalid_value,
    missing_parameter,
    serialization,
)

Json = dict[str, Any]
T = TypeVar("T")

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ALLOWED = (
    "the set of allowed characters is #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]."
)
_TOKEN = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")
_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
_ATTRIBUTE_NAME = re.compile(r"[\w.-]{1,256}")  # a letter is a letter, beyond ASCII too
MAX_MESSAGE_ATTRIBUTES = 10
MAX_NAME_CHARACTERS = 256
MAX_BATCH = 10
MAX_BATCH_BYTES = 1_048_576

_TYPE_NAMES: dict[type, str] = {str: "a String", int: "an Integer", list: "a Collection", dict: "a Map"}
_GIVEN_NAMES: dict[type, str] = {
    str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE", bool: "TRUE_VALUE",
    list: "START_ARRAY", dict: "START_OBJECT",
}  # fmt: skip


def optional(request: Json, name: str, kind: type[T]) -> T | None:
    """Return a parameter, or None where it is absent or null.

    Raises:
        SqsError: it has another type.
    """
    value = request.get(name)
    if value is None or type(value) is kind:
        return value
    given = _GIVEN_NAMES.get(type(value), "VALUE")
    raise serialization(f"{given} can not be converted to {_TYPE_NAMES[kind]}")


def required(request: Json, name: str, kind: type[T]) -> T:
    """Return a parameter.

    Raises:
        SqsError: it is absent, or has another type.
    """
    value = optional(request, name, kind)
    if value is None:
        raise missing_parameter(name)
    return value


def strings(request: Json, name: str) -> list[str]:
    """Return a list of strings; empty where it is absent.

    Raises:
        SqsError: it is something else.
    """
    values = optional(request, name, list) or []
    for value in values:
        if type(value) is not str:
            raise serialization(f"{_GIVEN_NAMES.get(type(value), 'VALUE')} can not be converted to a String")
    return values


def string_map(request: Json, name: str) -> dict[str, str]:
    """Return a map of strings; empty where it is absent.

    Raises:
        SqsError: it is something else.
    """
    values = optional(request, name, dict) or {}
    strings({"values": list(values.values())}, "values")
    return values


def number_in(request: Json, name: str, least: int, most: int, default: int, reason: str) -> int:
    """Return a number within its range.

    Raises:
        SqsError: it is outside, or no integer.
    """
    value = optional(request, name, int)
    if value is None:
        return default
    if not least <= value <= most:
        raise invalid_value(value, name, reason)
    return value


def token(request: Json, name: str) -> str | None:
    """Return a group, deduplication or attempt id, or None.

    Raises:
        SqsError: it has characters that are not allowed, or more than 128.
    """
    value = optional(request, name, str)
    if value is not None and not _TOKEN.fullmatch(value):
        raise invalid_value(
            value,
            name,
            f"{name} can only include alphanumeric and punctuation characters. 1 to 128 in length.",
        )
    return value


def batch(request: Json, action: str) -> list[Json]:
    """Return a batch's entries.

    Raises:
        SqsError: there are none or more than 10, or their ids are not distinct or not ids.
    """
    entries = required(request, "Entries", list)
    if not entries:
        raise SqsError(
            "EmptyBatchRequest", f"There should be at least one {action}RequestEntry in the request."
        )
    if len(entries) > MAX_BATCH:
        raise SqsError(
            "TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}.",
        )
    seen: set[str] = set()
    for entry in entries:
        if type(entry) is not dict:
            raise serialization("Start of structure or map found where not expected.")
        id = required(entry, "Id", str)
        if not _BATCH_ID.fullmatch(id):
            raise SqsError(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )
        if id in seen:
            raise SqsError("BatchEntryIdsNotDistinct", f"Id {id} repeated.")
        seen.add(id)
    return entries


def check_characters(text: str) -> None:
    """Refuse characters that SQS does not carry.

    Raises:
        SqsError: there is one.
    """
    found = _FORBIDDEN.search(text)
    if found:
        raise SqsError(
            "InvalidMessageContents",
            f"Invalid binary character '#x{ord(found[0]):X}' was found in the message body, {_ALLOWED}",
        )


def message_attributes(request: Json, name: str = "MessageAttributes") -> Json:
    """Return a message's attributes, checked; empty where there are none.

    Raises:
        SqsError: a name, type or value cannot be used, or there are more than 10.
    """
    attributes = optional(request, name, dict) or {}
    if len(attributes) > MAX_MESSAGE_ATTRIBUTES:
        raise invalid_parameter(
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum "
            f"[{MAX_MESSAGE_ATTRIBUTES}]."
        )
    return {key: _message_attribute(key, value) for key, value in attributes.items()}


def _message_attribute(name: str, value: Any) -> Json:
    if type(value) is not dict:
        raise serialization("Start of structure or map found where not expected.")
    if len(name) > MAX_NAME_CHARACTERS:
        raise invalid_parameter("Message (user) attribute names must be shorter than 256 Bytes")
    if not _ATTRIBUTE_NAME.fullmatch(name):
        raise invalid_parameter(
            "Message (user) attributes name can only contain upper and lower score characters, digits, "
            "periods, hyphens and underscores. "
        )
    if name.lower().startswith(("aws.", "amazon.", ".")) or name.endswith("."):
        raise invalid_parameter(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are "
            "reserved for internal use. Additionally, they cannot start or end with '.'."
        )
    if ".." in name:
        raise invalid_parameter("Message attribute name can not have successive '.' characters. ")
    data_type = optional(value, "DataType", str)
    if not data_type:
        raise invalid_parameter(
            f"The message attribute '{name}' must contain a non-empty message attribute type."
        )
    kind, _, label = data_type.partition(".")
    if kind not in ("String", "Number", "Binary") or len(data_type) > 256 or (not label and "." in data_type):
        raise invalid_parameter(
            f"The type of message (user) attribute '{name}' is invalid. You must use only the following "
            "supported type prefixes: Binary, Number, String."
        )
    if value.get("StringListValues") or value.get("BinaryListValues"):
        raise SqsError(
            "UnsupportedOperation",
            "Message attribute list values in SendMessage operation are not supported.",
        )
    field = "BinaryValue" if kind == "Binary" else "StringValue"
    content = optional(value, field, str)
    if not content:
        raise invalid_parameter(
            f"Message (user) attribute '{name}' must contain a non-empty value of type "
            f"'{'Binary' if kind == 'Binary' else 'String'}'."
        )
    if kind == "Binary":
        try:
            b64decode(content, validate=True)
        except Base64Error:
            raise serialization("Invalid base64 value") from None
    elif found := _FORBIDDEN.search(content):
        raise invalid_parameter(
            f"Invalid binary character '#x{ord(found[0]):X}' was found in the message attribute '{name}' "
            f"value, {_ALLOWED}"
        )
    if kind == "Number" and not (_NUMBER.fullmatch(content) and len(content) <= 256):
        raise invalid_parameter(f"Can't cast the value of message (user) attribute '{name}' to a number.")
    return {"DataType": data_type, field: content}


def attributes_bytes(attributes: Json) -> int:
    """Return how much of a message's size its attributes are: names, types and values."""
    return sum(
        len(name.encode()) + len(value["DataType"].encode()) + len(_value_bytes(value))
        for name, value in attributes.items()
    )


def attributes_md5(attributes: Json) -> str:
    """Return the MD5 that clients verify.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    digest = md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        for part in (name.encode(), value["DataType"].encode()):
            digest.update(struct.pack("!I", len(part)) + part)
        content = _value_bytes(value)
        kind = b"\x02" if "BinaryValue" in value else b"\x01"
        digest.update(kind + struct.pack("!I", len(content)) + content)
    return digest.hexdigest()


def _value_bytes(value: Json) -> bytes:
    if "BinaryValue" in value:
        return b64decode(value["BinaryValue"])
    content: str = value["StringValue"]
    return content.encode()


def attribute_filter(names: list[str]) -> Callable[[str], bool] | None:
    """Return which message attributes a receive asked for; None: none of them."""
    if not names:
        return None
    if not {"All", ".*", "*"}.isdisjoint(names):
        return lambda _: True
    exact = set(names)
    prefixes = tuple(name[:-2] for name in names if name.endswith(".*"))
    return lambda name: name in exact or name.startswith(prefixes)
