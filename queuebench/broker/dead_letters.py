"""The one place for what can never be shipped: a list in the broker, with the reason."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import orjson

from queuebench.errors import MessageError
from queuebench.message import Message
from queuebench.plumbing.printable import safe_text

KEY = "dead_letters"


@dataclass(frozen=True)
class DeadLetter:
    """One thing that was given up: a message as its producer wrote it, or a Celery task's envelope."""

    reason: str
    body: bytes
    kind: str = "message"  # or "task"
    id: str = ""
    run: str | None = None
    number: int | None = None
    at: float = 0.0  # Unix seconds

    def encode(self) -> bytes:
        """Return JSON; a body that is no UTF-8 text is kept in base64."""
        data: dict[str, Any] = {"reason": safe_text(self.reason), "kind": self.kind, "id": self.id}
        data |= {"run": self.run, "number": self.number, "at": self.at or time.time()}
        try:
            data["body"] = self.body.decode()
        except UnicodeDecodeError:
            data["body_base64"] = base64.b64encode(self.body).decode()
        return orjson.dumps(data)

    @classmethod
    def decode(cls, record: bytes) -> DeadLetter:
        """Return the dead letter that `encode` wrote.

        Raises:
            MessageError: it did not write this.
        """
        try:
            data = orjson.loads(record)
            coded = data.pop("body_base64", None)
            body = base64.b64decode(coded) if coded is not None else data.pop("body").encode()
            return cls(body=body, **data)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise MessageError("not a dead letter's record") from None


def of_message(message: Message, reason: str) -> DeadLetter:
    """Return the dead letter of a message that could be read."""
    try:
        body = message.encode()
    except (TypeError, ValueError):
        body = json.dumps(message._asdict(), default=repr).encode()
    return DeadLetter(reason, body, "message", message.id, message.run, message.number)


def of_task(envelope: bytes, reason: str) -> DeadLetter:
    """Return the dead letter of a Celery task that was never run to its end."""
    try:
        # Not orjson: it refuses the lone surrogates that other clients' JSON may have.
        task_id = str(json.loads(envelope)["headers"]["id"]).encode(errors="backslashreplace").decode()
    except (ValueError, LookupError, TypeError, RecursionError):
        task_id = ""
    run, dash, number = task_id.rpartition("-")
    if dash and number.isascii() and number.isdigit() and len(number) < 16:
        return DeadLetter(reason, envelope, "task", task_id, run, int(number))
    return DeadLetter(reason, envelope, "task", task_id)


def record_of_task(envelope: bytes, reason: str) -> bytes:
    """Return the record that `of_task` makes."""
    return of_task(envelope, reason).encode()
