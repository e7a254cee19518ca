"""The registry of queues: one new queue is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from queuebench.errors import SettingsError
from queuebench.queues.base import Batch, Depth, Queue

__all__ = ["QUEUES", "Batch", "Depth", "Queue", "open_queue"]

# Each class, and the options that its constructor takes by name.
QUEUES = {
    "REDIS": ("queuebench.queues.redis_list:RedisList", "redis_pubsub_url channel_name lease_seconds"),
    "SQS": (
        "queuebench.queues.sqs:Sqs",
        "queue_names aws_region aws_endpoint_url_sqs local_sqs aws_create_queues sqs_threads sqs_fair",
    ),
}


def open_queue(name: str, options: Mapping[str, Any]) -> Queue:
    """Return the queue of that name, made with those of the options that it takes. Nothing connects yet.

    Raises:
        SettingsError: there is no queue of that name, or an option that none takes.
    """
    known = {option for _, taken in QUEUES.values() for option in taken.split()}
    if unknown := sorted(options.keys() - known):
        raise SettingsError(f"no queue takes the option {unknown[0]!r}; known: {', '.join(sorted(known))}")
    try:
        path, taken = QUEUES[name]
    except KeyError:
        raise SettingsError(f"QUEUE={name!r} is unknown; known: {', '.join(QUEUES)}") from None
    module, class_name = path.split(":")
    given = {option: options[option] for option in taken.split() if option in options}
    opened: Queue = getattr(importlib.import_module(module), class_name)(**given)
    return opened
