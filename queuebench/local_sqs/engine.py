"""All queues of one account: creating, sending, receiving, dead letters.

Pure: time, ids and chance are passed in, and whatever must survive is appended to `events`, which the
caller writes to a log before it answers.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from queuebench.local_sqs.attributes import changed_attributes, differing_attribute, new_queue_attributes
from queuebench.local_sqs.errors import (
    SqsError,
    invalid_parameter,
    invalid_value,
    queue_does_not_exist,
)
from queuebench.local_sqs.events import Event, queue_event, send_event
from queuebench.local_sqs.fifo import FifoQueue
from queuebench.local_sqs.limits import Limits
from queuebench.local_sqs.message import GONE, Message
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.standard import StandardQueue

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
_STANDARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIFO_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")
ACCOUNT = "000000000000"


@dataclass(slots=True)
class Engine:
    """Every queue, by name.

    Args:
        region: what the queues' ARNs name.
        limits: the quotas in force.
        new_id: makes a fresh UUID, as text.
        keep_events: whether to append to `events`.
    """

    region: str
    limits: Limits
    new_id: Callable[[], str]
    keep_events: bool = False
    queues: dict[str, Queue] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    deleted_at: dict[str, float] = field(default_factory=dict)
    # those that messages of others came into, for whoever wakes those who wait
    reached: set[Queue] = field(default_factory=set)

    def record(self, *event: Any) -> None:
        """Append an event for the log, if there is one."""
        if self.keep_events:
            self.events.append(list(event))

    # Queues

    def arn(self, name: str) -> str:
        """Return a queue's ARN."""
        return f"arn:aws:sqs:{self.region}:{ACCOUNT}:{name}"

    def queue(self, name: str) -> Queue:
        """Return a queue by name.

        Raises:
            SqsError: there is none.
        """
        try:
            return self.queues[name]
        except KeyError:
            raise queue_does_not_exist() from None

    def queue_by_arn(self, arn: str) -> Queue | None:
        """Return a queue by ARN, or None."""
        prefix, _, name = arn.rpartition(":")
        return self.queues.get(name) if prefix == self.arn("").rstrip(":") else None

    def create_queue(self, name: str, attributes: dict[str, str], tags: dict[str, str], now: float) -> Queue:
        """Create a queue, or return the one that is there already with the same attributes.

        Raises:
            SqsError: the name or an attribute cannot be used; another queue has the name; one of that
                name was deleted less than 60 seconds ago.
        """
        fifo = attributes.get("FifoQueue", "").lower() == "true"
        if fifo and not _FIFO_NAME.fullmatch(name):
            raise invalid_parameter(
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
                "underscores, must end with .fifo suffix and be 1 to 80 in length."
            )
        if not fifo and not _STANDARD_NAME.fullmatch(name):
            raise invalid_parameter(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            )
        existing = self.queues.get(name)
        if existing is not None:
            differing = differing_attribute(existing.attributes, attributes, fifo=fifo)
            if differing:
                raise SqsError(
                    "QueueNameExists",
                    "A queue already exists with the same name and a different value for attribute "
                    f"{differing}",
                )
            return existing
        complete = new_queue_attributes(attributes, fifo=fifo)
        self._check_redrive(name, complete, fifo=fifo)
        if now - self.deleted_at.get(name, float("-inf")) < self.limits.wait_seconds:
            raise SqsError(
                "QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another with the "
                "same name.",
            )
        self.deleted_at.pop(name, None)
        queue = self.new_queue(name, self.new_id()[:8], complete, tags, now)
        self.record(*queue_event(queue))
        return queue

    def new_queue(
        self, name: str, incarnation: str, attributes: dict[str, str], tags: dict[str, str], now: float
    ) -> Queue:
        """Add a queue of checked attributes."""
        kind = FifoQueue if name.endswith(".fifo") else StandardQueue
        queue = self.queues[name] = kind(name, incarnation, attributes, tags, self.limits, now)
        return queue

    def _check_redrive(self, name: str, attributes: dict[str, str], *, fifo: bool) -> None:
        text = attributes.get("RedrivePolicy")
        if not text:
            return
        arn = json.loads(text)["deadLetterTargetArn"]
        target = self.queue_by_arn(arn)
        if target is None:
            raise SqsError("QueueDoesNotExist", f"Could not find DLQ for {arn}")
        if target.is_fifo != fifo:
            raise invalid_value(
                text, "RedrivePolicy", "Dead-letter queue must be same type of queue as the source."
            )
        if target.redrive_allow is not None and not target.redrive_allow.allows(self.arn(name)):
            raise invalid_value(
                text,
                "RedrivePolicy",
                f"Reason: Queue {self.arn(name)} is not allowed by the redrive allow policy of {arn}.",
            )

    def set_attributes(self, queue: Queue, attributes: dict[str, str], now: float) -> None:
        """Change attributes of a queue.

        Raises:
            SqsError: one of them is unknown, or its value cannot be used.
        """
        changed = changed_attributes(queue.attributes, attributes, fifo=queue.is_fifo)
        if "RedrivePolicy" in attributes:
            self._check_redrive(queue.name, changed, fifo=queue.is_fifo)
        queue.advance(now)
        queue.configure(changed, now)
        self.record(*queue_event(queue))

    def set_tags(self, queue: Queue, tags: dict[str, str]) -> None:
        """Replace a queue's tags."""
        queue.tags = tags
        self.record(*queue_event(queue))

    def delete_queue(self, queue: Queue, now: float) -> None:
        """Delete a queue and what is in it."""
        del self.queues[queue.name]
        queue.deleted = True
        queue.clear()
        wait = self.limits.wait_seconds
        self.deleted_at = {name: at for name, at in self.deleted_at.items() if now - at < wait}
        self.deleted_at[queue.name] = now
        self.record("gone", queue.name, now)

    def purge(self, queue: Queue, now: float) -> None:
        """Delete every message of a queue.

        Raises:
            SqsError: the queue was purged less than 60 seconds ago.
        """
        queue.purge(now)
        self.record("purge", queue.name, now)

    def dead_letter_sources(self, queue: Queue) -> list[Queue]:
        """Return the queues whose dead letters go to this one."""
        arn = self.arn(queue.name)
        return [
            source
            for source in self.queues.values()
            if source.redrive is not None and source.redrive.target_arn == arn
        ]

    # Messages

    def send(self, queue: Queue, message: Message, now: float, delay_seconds: int | None = None) -> Message:
        """Send one message."""
        sent = queue.send(message, now, delay_seconds)
        if self.keep_events and sent.state != GONE:
            self.events.append(send_event(queue, sent))
        return sent

    def receive(
        self,
        queue: Queue,
        limit: int,
        visibility_timeout: int,
        now: float,
        *,
        attempt_id: str | None = None,
        is_duplicated: Callable[[], bool] | None = None,
    ) -> list[Message]:
        """Receive up to `limit` messages; on a standard queue `is_duplicated` says which come twice."""
        if queue.deleted:
            raise queue_does_not_exist()
        if attempt_id is not None and isinstance(queue, FifoQueue):
            again = queue.attempt(attempt_id, visibility_timeout, now)
            if again is not None:
                self.record("hide", queue.name, [[m.n, m.due] for m in again])
                return again
        messages = queue.receive(limit, visibility_timeout, now, self._burial(queue, now))
        if not messages:
            return messages
        self.record("recv", queue.name, [m.n for m in messages], now, messages[0].due, attempt_id)
        if attempt_id is not None and isinstance(queue, FifoQueue):
            queue.remember_attempt(attempt_id, messages, now)
        if is_duplicated is not None and not queue.is_fifo:
            for message in messages:
                if message.receive_count == 1 and is_duplicated():
                    copy = Message(message.id, message.body, sent_at=message.sent_at, extras=message.extras)
                    copy.group = message.group
                    # received once already, so that a copy is not copied again
                    copy.receive_count, copy.moved_count = 1, 1
                    copy.first_received_at = message.first_received_at
                    self.send(queue, copy, now, 0)
        return messages

    def _burial(self, queue: Queue, now: float) -> Callable[[Message], None] | None:
        if queue.redrive is None:
            return None
        target = self.queue_by_arn(queue.redrive.target_arn)
        if target is None:
            return None

        def bury(message: Message) -> None:
            extras = dict(message.extras or {}, source=self.arn(queue.name))
            # the age of a standard queue's message goes on, a FIFO queue's starts anew:
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
            sent_at = now if target.is_fifo else message.sent_at
            dead = Message(message.id, message.body, sent_at=sent_at, group=message.group, extras=extras)
            dead.first_received_at = message.first_received_at
            dead.receive_count = dead.moved_count = message.receive_count
            # lest two messages of one deduplication id were one in the dead-letter queue:
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
            self.add(target, dead, message.id if target.is_fifo else None, now)
            self.record("del", queue.name, [message.n])

        return bury

    def add(self, target: Queue, message: Message, dedup_id: str | None, now: float) -> None:
        """Add a message that comes from another queue: at once, and never dropped as a duplicate."""
        Queue.send(target, message, now, 0)
        message.dedup_id = dedup_id
        self.reached.add(target)
        if self.keep_events:
            self.events.append(send_event(target, message, moved=True))

    def delete(self, queue: Queue, handle: str, now: float) -> None:
        """Delete the message that a receipt handle names.

        Raises:
            SqsError: the handle is not one of this queue, or (FIFO) has expired.
        """
        n = queue.delete(handle, now)
        if n is not None:
            self.record("del", queue.name, [n])

    def change_visibility(self, queue: Queue, handle: str, timeout_seconds: int, now: float) -> None:
        """Let a message's visibility timeout end that many seconds from now.

        Raises:
            SqsError: the handle is not one of this queue, or no longer that message's, or the total
                would exceed 12 hours.
        """
        message = queue.change_visibility(handle, timeout_seconds, now)
        if message is not None:
            self.record("hide", queue.name, [[message.n, message.due]])
