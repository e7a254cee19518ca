"""A kombu transport over Redis that loses no message of a killed worker, and costs a third of the CPU.

kombu's own pops a message and records it as unacknowledged in two steps: a worker killed in between loses
it. Here one script pops as many messages as there is credit, records them as in flight under the consumer's
lease, and carries the acknowledgements that came in since. What a dead consumer held goes back when its
lease runs out. Producers, control commands and events are kombu's, unchanged, and so is what waits in Redis.

Tested with kombu 5.7.0, on whose internals it builds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuebench.broker.transport.celery import celery_settings
    from queuebench.broker.transport.envelope import plain_record
    from queuebench.broker.transport.keys import backlog
    from queuebench.broker.transport.link import SCHEME, url

__all__ = ["SCHEME", "backlog", "celery_settings", "plain_record", "url"]

# Loaded when they are used: who only counts a backlog needs no Celery.
_HOMES = {
    "SCHEME": "link",
    "backlog": "keys",
    "celery_settings": "celery",
    "plain_record": "envelope",
    "url": "link",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
