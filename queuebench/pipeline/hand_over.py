"""Handing a batch of messages to Celery in bulk.

`apply_async` costs some 0.4 ms a task, nearly all of it making an envelope that is the same for
every task but for the id and the arguments. So Celery makes one, and each message is stamped into
a copy. The envelopes of a batch reach the broker in one `LPUSH`, as Celery's own would.
"""

from __future__ import annotations

import re
import time
import uuid
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import orjson
from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.utils.json import dumps

from queuebench.broker.broker import Broker
from queuebench.broker.dead_letters import DeadLetter
from queuebench.errors import QueueError, Unreachable
from queuebench.message import Message
from queuebench.plumbing.redis_client import PushOnce


class Envelope:
    """The message that Celery itself sends for a task, ready to be stamped."""

    def __init__(self, task: Any, args: Sequence[Any]) -> None:
        task_id, body, tag = "stamped-task-id", "stamped-task-body", "stamped-delivery-tag"
        made = _made_by_celery(task, args, task_id)
        self.queue: str = made["properties"]["delivery_info"]["routing_key"]
        self._embed = orjson.Fragment(orjson.dumps(orjson.loads(b64decode(made["body"]))[2]))
        made["body"], made["properties"]["delivery_tag"] = body, tag
        # A delivery tag tells two deliveries of one task id apart, so it is never used twice.
        places = {f'"{task_id}"': "%b", body: "%b", tag: f"{uuid.uuid4().hex}-%d"}
        pieces = re.split("(" + "|".join(places) + ")", dumps(made).replace("%", "%%"))
        self._layout = "".join(places.get(piece, piece) for piece in pieces).encode()
        stamps = list(places)
        self._in_order = itemgetter(*[stamps.index(piece) for piece in pieces if piece in stamps])
        self._stamped = 0

    def stamp(self, task_id: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        """Return the envelope of one task."""
        self._stamped += 1
        body = b2a_base64(orjson.dumps((args, kwargs, self._embed)), newline=False)
        return self._layout % self._in_order((orjson.dumps(task_id), body, self._stamped))  # type: ignore[no-any-return]


def _made_by_celery(task: Any, args: Sequence[Any], task_id: str) -> dict[str, Any]:
    """Return what Celery would put into the broker for a task, sent to a broker that only keeps it."""
    caught: list[dict[str, Any]] = []
    with Connection("memory://") as connection:
        channel = connection.channel()
        channel._put = lambda _queue, message, **_: caught.append(message)
        # Phone numbers and texts are not shown by tools that list tasks.
        task.apply_async(
            args=args, task_id=task_id, producer=Producer(channel), argsrepr="(…)", kwargsrepr="{…}"
        )
    return caught[0]


class HandOver:
    """The way into Celery for one lane of a subscriber; used by one thread at a time.

    Bounded by what a receive takes: 1 MiB of messages, or one that is larger, and their envelopes, which take
    up to twice as much and are made 50 at a time where each message is a task of its own.
    """

    def __init__(self, broker: Broker, push_data: Any, push_several: Any, per_task: int = 1) -> None:
        self._per_task = per_task
        self._one = Envelope(push_data, ("phone", "text"))
        self._several = Envelope(push_several, ([],))
        lane = uuid.uuid4().hex
        self._tasks = PushOnce(broker.client, self._one.queue, "LPUSH", f"handed-over:{lane}")
        self._broker, self._marker = broker, f"dead-lettered:{lane}"

    def hand_over(self, messages: Sequence[Message], broken: Sequence[DeadLetter], batch: int) -> None:
        """Give messages to Celery, and what is none to the dead letters.

        After `Unreachable` the same call, with the same batch number, hands nothing over twice.

        Args:
            messages: any number of them.
            broken: what could not be read.
            batch: a number that grows with each batch.

        Raises:
            Unreachable: the broker does not answer, or is full; try again.
            QueueError: the broker refused.
        """
        if broken:
            self._keep(broken, batch)
        if messages:
            at = time.time()
            if self._per_task == 1:
                self._tasks.push(messages, batch, lambda some: self._one_each(some, at))
            else:
                self._tasks.push(self._together(messages, at), batch)

    def _keep(self, broken: Sequence[DeadLetter], batch: int) -> None:
        """Put what is no message with the dead letters; whatever is wrong there is waited for."""
        try:
            self._broker.add_dead_letters(broken, batch, self._marker)
        except Unreachable:
            raise
        except QueueError as error:
            raise Unreachable(f"dead letters can't be kept, so nothing is acknowledged: {error}") from error

    def _one_each(self, messages: Sequence[Message], at: float) -> list[bytes]:
        stamp = self._one.stamp
        return [
            stamp(
                id,
                (phone, text),
                {"run": run, "number": number, "intended_at": intended_at, "handed_over_at": at},
            )
            for id, phone, text, run, number, intended_at, _ in messages
        ]

    def _together(self, messages: Sequence[Message], at: float) -> list[bytes]:
        envelopes = []
        for first in range(0, len(messages), self._per_task):
            several = [message.task_arguments for message in messages[first : first + self._per_task]]
            envelopes.append(self._several.stamp(uuid.uuid4().hex, (several,), {"handed_over_at": at}))
        return envelopes
