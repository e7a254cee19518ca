"""The three actions of message move tasks."""

from queuebench.local_sqs.call import Action, Call
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.errors import invalid_value
from queuebench.local_sqs.moves import MAX_MOVES_PER_SECOND, MoveTasks, task_handle
from queuebench.local_sqs.validation import Json, number_in, optional, required


class MoveActions:
    """The actions of move tasks, over the queues of one engine."""

    def __init__(self, engine: Engine, tasks: MoveTasks) -> None:
        self._engine = engine
        self.tasks = tasks
        self.actions: dict[str, Action] = {
            "CancelMessageMoveTask": self._cancel_message_move_task,
            "ListMessageMoveTasks": self._list_message_move_tasks,
            "StartMessageMoveTask": self._start_message_move_task,
        }

    def _start_message_move_task(self, request: Json, call: Call) -> Json:
        source = required(request, "SourceArn", str)
        call.queue = self._engine.queue_by_arn(source)
        rate = optional(request, "MaxNumberOfMessagesPerSecond", int)
        if rate is not None and not 1 <= rate <= MAX_MOVES_PER_SECOND:
            raise invalid_value(
                rate, "MaxNumberOfMessagesPerSecond", f"Must be between 1 and {MAX_MOVES_PER_SECOND}."
            )
        # "If this field is left blank, the messages will be redriven back to their … source queues"
        destination = optional(request, "DestinationArn", str) or None
        return {"TaskHandle": self.tasks.start(source, destination, rate, call.now)}

    def _list_message_move_tasks(self, request: Json, call: Call) -> Json:
        source = required(request, "SourceArn", str)
        call.queue = self._engine.queue_by_arn(source)
        limit = number_in(request, "MaxResults", 1, 10, 1, "Must be between 1 and 10.")
        results: list[Json] = []
        for task in self.tasks.of(source, limit):
            result: Json = {
                "Status": task.status,
                "SourceArn": task.source,
                "ApproximateNumberOfMessagesMoved": task.moved,
                "ApproximateNumberOfMessagesToMove": task.to_move,
                "StartedTimestamp": int(task.started_at * 1000),
                "TaskHandle": task_handle(task) if task.status == "RUNNING" else None,
                "DestinationArn": task.destination,
                "MaxNumberOfMessagesPerSecond": task.per_second,
                "FailureReason": task.failure,
            }
            results.append({key: value for key, value in result.items() if value is not None})
        return {"Results": results}

    def _cancel_message_move_task(self, request: Json, call: Call) -> Json:
        task = self.tasks.cancel(required(request, "TaskHandle", str))
        call.queue = self._engine.queue_by_arn(task.source)
        return {"ApproximateNumberOfMessagesMoved": task.moved}
