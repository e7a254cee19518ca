"""All queues of one account: creating, dead letters, move tasks, and the events that rebuild them.

Pure: time, ids and chance are passed in, and whatever must survive is appended to `events`, which the
caller writes to a log before it answers. `replay` takes such events back.
"""

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from queuebench.local_sqs.attributes import changed_attributes, differing_attribute, new_queue_attributes
from queuebench.local_sqs.errors import (
    SqsError,
    invalid_parameter,
    invalid_value,
    queue_does_not_exist,
    resource_not_found,
)
from queuebench.local_sqs.fifo import FifoQueue
from queuebench.local_sqs.limits import Limits
from queuebench.local_sqs.message import GONE, Message
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.standard import StandardQueue

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
_STANDARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIFO_NAME = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")
ACCOUNT = "000000000000"

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
MAX_MOVES_PER_SECOND = 500
# without a rate of the caller's, so many at once
_MOVES_AT_ONCE = 1000
_TASKS_KEPT = 10

Event = list[Any]


@dataclass(slots=True)
class MoveTask:
    """One message move task."""

    id: str
    source: str
    destination: str | None
    per_second: int | None
    started_at: float
    to_move: int
    moved: int = 0
    status: str = "RUNNING"
    failure: str | None = None


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
    _deleted_at: dict[str, float] = field(default_factory=dict)
    _tasks: list[MoveTask] = field(default_factory=list)
    _replayed: dict[str, dict[int, Message]] = field(default_factory=dict)

    def _record(self, *event: Any) -> None:
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
        if now - self._deleted_at.get(name, float("-inf")) < self.limits.wait_seconds:
            raise SqsError(
                "QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another with the "
                "same name.",
            )
        self._deleted_at.pop(name, None)
        queue = self._new_queue(name, self.new_id()[:8], complete, tags, now)
        self._record(*self._queue_event(queue))
        return queue

    def _new_queue(
        self, name: str, incarnation: str, attributes: dict[str, str], tags: dict[str, str], now: float
    ) -> Queue:
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
        self._record(*self._queue_event(queue))

    def set_tags(self, queue: Queue, tags: dict[str, str]) -> None:
        """Replace a queue's tags."""
        queue.tags = tags
        self._record(*self._queue_event(queue))

    def delete_queue(self, queue: Queue, now: float) -> None:
        """Delete a queue and what is in it."""
        del self.queues[queue.name]
        queue.deleted = True
        queue.clear()
        wait = self.limits.wait_seconds
        self._deleted_at = {name: at for name, at in self._deleted_at.items() if now - at < wait}
        self._deleted_at[queue.name] = now
        self._record("gone", queue.name, now)

    def purge(self, queue: Queue, now: float) -> None:
        """Delete every message of a queue.

        Raises:
            SqsError: the queue was purged less than 60 seconds ago.
        """
        queue.purge(now)
        self._record("purge", queue.name, now)

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
            self.events.append(_send_event(queue, sent))
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
                self._record("hide", queue.name, [[m.n, m.due] for m in again])
                return again
        messages = queue.receive(limit, visibility_timeout, now, self._burial(queue, now))
        if not messages:
            return messages
        self._record("recv", queue.name, [m.n for m in messages], now, messages[0].due, attempt_id)
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
            self._add(target, dead, message.dedup_id, now)
            self._record("del", queue.name, [message.n])

        return bury

    def _add(self, target: Queue, message: Message, dedup_id: str | None, now: float) -> None:
        """Add a message that comes from another queue: at once, and never dropped as a duplicate."""
        Queue.send(target, message, now, 0)
        message.dedup_id = dedup_id
        if self.keep_events:
            self.events.append(_send_event(target, message, moved=True))

    def delete(self, queue: Queue, handle: str, now: float) -> None:
        """Delete the message that a receipt handle names.

        Raises:
            SqsError: the handle is not one of this queue, or (FIFO) has expired.
        """
        n = queue.delete(handle, now)
        if n is not None:
            self._record("del", queue.name, [n])

    def change_visibility(self, queue: Queue, handle: str, timeout_seconds: int, now: float) -> None:
        """Let a message's visibility timeout end that many seconds from now.

        Raises:
            SqsError: the handle is not one of this queue, or no longer that message's, or the total
                would exceed 12 hours.
        """
        message = queue.change_visibility(handle, timeout_seconds, now)
        if message is not None:
            self._record("hide", queue.name, [[message.n, message.due]])

    # Message move tasks

    def start_move(
        self, source_arn: str, destination_arn: str | None, per_second: int | None, now: float
    ) -> str:
        """Start moving a dead-letter queue's messages; return the task's handle.

        Raises:
            SqsError: source or destination cannot be used, or a task runs already.
        """
        source = self._move_source(source_arn)
        if not self.dead_letter_sources(source):
            raise invalid_parameter("Source queue must be configured as a Dead Letter Queue.")
        if destination_arn is not None:
            _check_arn(destination_arn, "DestinationArn")
        if destination_arn is not None and self.queue_by_arn(destination_arn) is None:
            raise resource_not_found(
                "The resource that you specified for the DestinationArn parameter doesn't exist."
            )
        if any(task.source == source_arn and task.status == "RUNNING" for task in self._tasks):
            raise invalid_parameter(
                "There is already a task running. Only one active task is allowed for a source queue arn "
                "at a given time."
            )
        source.advance(now)
        task = MoveTask(self.new_id(), source_arn, destination_arn, per_second, now, source.waiting)
        self._tasks.append(task)
        older = [other for other in self._tasks if other.source == source_arn][:-_TASKS_KEPT]
        self._tasks = [other for other in self._tasks if other not in older]
        return self.task_handle(task)

    def _move_source(self, arn: str) -> Queue:
        _check_arn(arn, "SourceArn")
        source = self.queue_by_arn(arn)
        if source is None:
            raise resource_not_found(
                "The resource that you specified for the SourceArn parameter doesn't exist."
            )
        return source

    @staticmethod
    def task_handle(task: MoveTask) -> str:
        """Return what names a task in CancelMessageMoveTask."""
        return b64encode(json.dumps({"taskId": task.id, "sourceArn": task.source}).encode()).decode()

    def move_tasks(self, source_arn: str, limit: int) -> list[MoveTask]:
        """Return the newest tasks of a source, newest first.

        Raises:
            SqsError: there is no such source.
        """
        self._move_source(source_arn)
        return [task for task in reversed(self._tasks) if task.source == source_arn][:limit]

    def cancel_move(self, handle: str) -> MoveTask:
        """Cancel a running task.

        Raises:
            SqsError: the handle names no task that runs.
        """
        try:
            named = json.loads(b64decode(handle, validate=True))
            task_id, source_arn = str(named["taskId"]), str(named["sourceArn"])
        except (ValueError, Base64Error, KeyError, TypeError, RecursionError):
            raise invalid_parameter("Value for parameter TaskHandle is invalid.") from None
        self._move_source(source_arn)
        for task in self._tasks:
            if task.id == task_id and task.status == "RUNNING":
                task.status = "CANCELLED"
                return task
        raise resource_not_found("Task does not exist.")

    def run_moves(self, now: float) -> float | None:
        """Move what is due; return when to call again, or None when no task runs."""
        again: list[float] = []
        for task in self._tasks:
            if task.status != "RUNNING":
                continue
            rate = task.per_second
            allowed = _MOVES_AT_ONCE if rate is None else int((now - task.started_at) * rate) - task.moved
            if allowed > 0:
                self._move(task, min(allowed, _MOVES_AT_ONCE), now)
            if task.status == "RUNNING":
                again.append(now if rate is None else task.started_at + (task.moved + 1) / rate)
        return min(again, default=None)

    def _move(self, task: MoveTask, allowed: int, now: float) -> None:
        source = self.queue_by_arn(task.source)
        for _ in range(allowed):
            if source is None:
                task.status, task.failure = "FAILED", queue_does_not_exist().code
                return
            messages = source.take_visible(1, now)
            if not messages:
                task.status = "COMPLETED"
                return
            message = messages[0]
            origin = (message.extras or {}).get("source")
            target = self.queue_by_arn(task.destination or origin or "")
            if target is None:
                # it goes back to where it was, last
                task.status, task.failure = "FAILED", queue_does_not_exist().code
                self._record("del", source.name, [message.n])
                back = Message(message.id, message.body, sent_at=message.sent_at, group=message.group)
                back.extras = message.extras
                back.receive_count = back.moved_count = message.receive_count
                back.first_received_at = message.first_received_at
                self._add(source, back, message.dedup_id, now)
                return
            # a message that is moved counts as new:
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
            extras = {key: value for key, value in (message.extras or {}).items() if key != "source"}
            moved = Message(
                self.new_id(), message.body, sent_at=now, group=message.group, extras=extras or None
            )
            if target.is_fifo and moved.group is None:
                moved.group = moved.id
            self._record("del", source.name, [message.n])
            self._add(target, moved, message.dedup_id, now)
            task.moved += 1

    # The log

    @staticmethod
    def _queue_event(queue: Queue) -> Event:
        return [
            "queue", queue.name, queue.incarnation, queue.attributes, queue.tags, queue.created_at,
            queue.modified_at, queue.next_n,
        ]  # fmt: skip

    def snapshot_size(self) -> int:
        """Return about how many events `snapshot` yields."""
        return sum(1 + queue.snapshot_size() for queue in self.queues.values())

    def snapshot(self) -> Iterator[Event]:
        """Yield the events that rebuild everything as it is now."""
        for name, at in self._deleted_at.items():
            yield ["gone", name, at]
        for queue in self.queues.values():
            yield self._queue_event(queue)
            if isinstance(queue, FifoQueue):
                for key, (at, id, n) in queue.recent():
                    yield ["dup", queue.name, key, at, id, n]
            for message in queue.messages():
                yield _send_event(queue, message, moved=True)

    def replay(self, event: Event) -> None:
        """Take one event back; call `finish_replay` after the last.

        Raises:
            KeyError, IndexError, TypeError, ValueError: it is not an event of this engine.
        """
        kind, name = event[0], event[1]
        if kind == "queue":
            _, _, incarnation, attributes, tags, created_at, modified_at, next_n = event
            queue = self.queues.get(name)
            if queue is None or queue.incarnation != incarnation:
                queue = self._new_queue(name, incarnation, attributes, tags, created_at)
                self._replayed[name] = {}
            queue.configure(attributes, modified_at)
            queue.tags = tags
            queue.next_n = max(queue.next_n, next_n)
        elif kind == "gone":
            self.queues.pop(name, None)
            self._replayed.pop(name, None)
            self._deleted_at[name] = event[2]
        elif kind == "purge":
            queue = self.queues[name]
            queue.purged_at = event[2]
            queue.clear()
            self._replayed[name].clear()
        elif kind == "dup":
            key = tuple(event[2]) if isinstance(event[2], list) else event[2]
            queue = self.queues[name]
            assert isinstance(queue, FifoQueue)
            queue.remember(key, event[3], event[4], event[5])
        elif kind in ("send", "move"):
            message = _message_of(event)
            queue = self.queues[name]
            queue.next_n = max(queue.next_n, message.n + 1)
            self._replayed[name][message.n] = message
            if isinstance(queue, FifoQueue) and message.dedup_id and kind == "send":
                key = queue.dedup_key(message.group, message.dedup_id)
                queue.remember(key, message.sent_at, message.id, message.n)
        else:
            self._replay_change(kind, event, self._replayed[name])

    @staticmethod
    def _replay_change(kind: str, event: Event, messages: dict[int, Message]) -> None:
        if kind == "del":
            for n in event[2]:
                messages.pop(n, None)
        elif kind == "recv":
            _, _, taken, at, due, _ = event
            for n in taken:
                message = messages[n]
                message.receive_count += 1
                message.received_at = at
                message.due = due
                if message.first_received_at is None:
                    message.first_received_at = at
        elif kind == "hide":
            for n, due in event[2]:
                messages[n].due = due
        else:
            raise ValueError(f"unknown kind of event {kind!r}")

    def finish_replay(self, now: float) -> None:
        """Put the replayed messages where they belong at this time."""
        for name, messages in self._replayed.items():
            self.queues[name].restore((messages[n] for n in sorted(messages)), now)
        self._replayed = {}
        self._deleted_at = {
            name: at for name, at in self._deleted_at.items() if now - at < 60 and name not in self.queues
        }


def _check_arn(arn: str, parameter: str) -> None:
    if len(arn.split(":")) != 6 or not arn.startswith("arn:"):
        raise invalid_parameter(
            f"You must use this format to specify the {parameter}: "
            "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
        )


def _send_event(queue: Queue, m: Message, *, moved: bool = False) -> Event:
    kind = "move" if moved else "send"
    return [
        kind, queue.name, m.n, m.id, m.body, m.sent_at, m.due, m.group, m.dedup_id, m.extras,
        m.receive_count, m.moved_count, m.first_received_at, m.received_at,
    ]  # fmt: skip


def _message_of(event: Event) -> Message:
    (_, _, n, id, body, sent_at, due, group, dedup_id, extras, receive_count, moved_count, first, at) = event
    message = Message(id, body, sent_at=sent_at, group=group, dedup_id=dedup_id, extras=extras)
    message.n = n
    message.due = due
    message.receive_count = receive_count
    message.moved_count = moved_count
    message.first_received_at = first
    message.received_at = at
    return message
