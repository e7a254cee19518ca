"""The registry of queues: one new queue is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from queuebench.errors import SettingsError
from queuebench.queues.base import Batch, Depth, Queue

__all__ = ["QUEUES", "Batch", "Depth", "Queue", "open_queue"]

QUEUES = {
    "REDIS": "queuebench.queues.redis_list:RedisList",
    "SQS": "queuebench.queues.sqs:Sqs",
}


def open_queue(name: str, options: Mapping[str, Any]) -> Queue:
    """Return the queue of that name; each class takes what it needs from `options`. Nothing connects yet.

    Raises:
        SettingsError: there is no queue of that name.
    """
    try:
        module, class_name = QUEUES[name].split(":")
    except KeyError:
        raise SettingsError(f"QUEUE={name!r} is unknown; known: {', '.join(QUEUES)}") from None
    opened: Queue = getattr(importlib.import_module(module), class_name)(**options)
    return opened
