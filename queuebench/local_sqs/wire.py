"""A request's bytes and a reply's: the JSON protocol, and what both protocols share."""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from queuebench.local_sqs.errors import SqsError, serialization
from queuebench.local_sqs.validation import Json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

AMZ_JSON = b"application/x-amz-json-1.0"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ClientGoneError(Exception):
    """The connection was closed before its request was answered."""


def error_response(error: SqsError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    fault = "Sender" if error.is_senders_fault else "Receiver"
    headers = [
        (b"content-type", AMZ_JSON),
        (b"x-amzn-query-error", f"{error.code};{fault}".encode()),
    ]
    return error.status, orjson.dumps({"__type": error.type, "message": error.message}), headers


def address(scope: Scope) -> str:
    server = scope.get("server")
    return f"{server[0]}:{server[1]}" if server else "localhost"


async def read_body(receive: Receive) -> bytes:
    """Return a request's body; the server has limits on its size and its time.

    Raises:
        ClientGoneError: the connection was closed.
    """
    parts: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        if not parts and not event.get("more_body"):
            body: bytes = event["body"]
            return body
        parts.append(event["body"])
        if not event.get("more_body"):
            return b"".join(parts)


def parse(body: bytes) -> Json:
    """Parse a request's JSON object; an empty body stands for an empty one.

    Raises:
        SqsError: it is something else.
    """
    if not body:
        return {}
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = _parse_leniently(body)
    if type(request) is not dict:
        raise serialization("Start of structure or map found where not expected.")
    return request


def _parse_leniently(body: bytes) -> Any:
    """Parse JSON with lone surrogates, which orjson refuses; each becomes U+FFFF, which SQS refuses.

    Raises:
        SqsError: it is not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _LONE_SURROGATE.sub("\uffff", value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return value

    try:
        return clean(json.loads(body, parse_constant=refuse))
    except (ValueError, RecursionError):
        raise serialization("The request is not valid JSON.") from None
