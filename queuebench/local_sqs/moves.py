"""Message move tasks: dead letters on their way back, at a rate."""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.errors import invalid_parameter, queue_does_not_exist, resource_not_found
from queuebench.local_sqs.message import Message
from queuebench.local_sqs.queue import Queue

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
MAX_MOVES_PER_SECOND = 500
# without a rate of the caller's, so many at once
_MOVES_AT_ONCE = 1000
_TASKS_KEPT = 10
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-dlq-redrive.html
_UNKNOWN_SOURCE = "CouldNotDetermineMessageSource"


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


class MoveTasks:
    """The tasks of one engine's queues; `run` does what is due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: list[MoveTask] = []

    def start(self, source_arn: str, destination_arn: str | None, per_second: int | None, now: float) -> str:
        """Start moving a dead-letter queue's messages; return the task's handle.

        Raises:
            SqsError: source or destination cannot be used, or a task runs already.
        """
        source = self._source(source_arn)
        if not self._engine.dead_letter_sources(source):
            raise invalid_parameter("Source queue must be configured as a Dead Letter Queue.")
        if destination_arn is not None:
            self._check_destination(destination_arn, source)
        if any(task.source == source_arn and task.status == "RUNNING" for task in self._tasks):
            raise invalid_parameter(
                "There is already a task running. Only one active task is allowed for a source queue arn "
                "at a given time."
            )
        source.advance(now)
        task = MoveTask(self._engine.new_id(), source_arn, destination_arn, per_second, now, source.waiting)
        self._tasks.append(task)
        older = [other for other in self._tasks if other.source == source_arn][:-_TASKS_KEPT]
        self._tasks = [other for other in self._tasks if other not in older]
        return task_handle(task)

    def _source(self, arn: str) -> Queue:
        _check_arn(arn, "SourceArn")
        source = self._engine.queue_by_arn(arn)
        if source is None:
            raise resource_not_found(
                "The resource that you specified for the SourceArn parameter doesn't exist."
            )
        return source

    def _check_destination(self, arn: str, source: Queue) -> None:
        _check_arn(arn, "DestinationArn")
        destination = self._engine.queue_by_arn(arn)
        if destination is None:
            raise resource_not_found(
                "The resource that you specified for the DestinationArn parameter doesn't exist."
            )
        if destination is source:
            raise invalid_parameter("Source queue and destination queue must not be the same.")
        if destination.is_fifo != source.is_fifo:
            raise invalid_parameter("Destination queue must be same type of queue as the source.")

    def of(self, source_arn: str, limit: int) -> list[MoveTask]:
        """Return the newest tasks of a source, newest first.

        Raises:
            SqsError: there is no such source.
        """
        self._source(source_arn)
        return [task for task in reversed(self._tasks) if task.source == source_arn][:limit]

    def cancel(self, handle: str) -> MoveTask:
        """Cancel a running task.

        Raises:
            SqsError: the handle names no task that runs.
        """
        try:
            named = json.loads(b64decode(handle, validate=True))
            task_id, source_arn = str(named["taskId"]), str(named["sourceArn"])
        except (ValueError, Base64Error, KeyError, TypeError, RecursionError):
            raise invalid_parameter("Value for parameter TaskHandle is invalid.") from None
        self._source(source_arn)
        for task in self._tasks:
            if task.id == task_id and task.status == "RUNNING":
                task.status = "CANCELLED"
                return task
        raise resource_not_found("Task does not exist.")

    def run(self, now: float) -> float | None:
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
        source = self._engine.queue_by_arn(task.source)
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
            target = self._engine.queue_by_arn(task.destination or origin or "")
            if target is None:
                # it goes back to where it was, last
                known = task.destination or origin
                task.status = "FAILED"
                task.failure = queue_does_not_exist().code if known else _UNKNOWN_SOURCE
                self._engine.record("del", source.name, [message.n])
                back = Message(message.id, message.body, sent_at=message.sent_at, group=message.group)
                back.extras = message.extras
                back.receive_count = back.moved_count = message.receive_count
                back.first_received_at = message.first_received_at
                self._engine.add(source, back, message.dedup_id, now)
                return
            # a message that is moved counts as new:
            # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
            extras = {key: value for key, value in (message.extras or {}).items() if key != "source"}
            moved = Message(
                self._engine.new_id(), message.body, sent_at=now, group=message.group, extras=extras or None
            )
            if target.is_fifo and moved.group is None:
                moved.group = moved.id
            self._engine.record("del", source.name, [message.n])
            self._engine.add(target, moved, message.dedup_id, now)
            task.moved += 1


def task_handle(task: MoveTask) -> str:
    """Return what names a task in CancelMessageMoveTask."""
    return b64encode(json.dumps({"taskId": task.id, "sourceArn": task.source}).encode()).decode()


def _check_arn(arn: str, parameter: str) -> None:
    if len(arn.split(":")) != 6 or not arn.startswith("arn:"):
        raise invalid_parameter(
            f"You must use this format to specify the {parameter}: "
            "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
        )
