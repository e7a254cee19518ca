"""The actions of the SQS API by their names: a request's JSON in, the reply's JSON out."""

from collections.abc import Callable

from queuebench.local_sqs.call import Action, Call
from queuebench.local_sqs.engine import Engine
from queuebench.local_sqs.faults import Faults
from queuebench.local_sqs.move_actions import MoveActions
from queuebench.local_sqs.moves import MoveTasks
from queuebench.local_sqs.queue_actions import QueueActions
from queuebench.local_sqs.receiving import Receiving
from queuebench.local_sqs.sending import Sending
from queuebench.local_sqs.validation import Json


class Api:
    """The actions, over one engine.

    Args:
        engine: the queues.
        faults: what goes wrong on request.
        new_id: makes a fresh UUID, as text.
    """

    def __init__(self, engine: Engine, faults: Faults, new_id: Callable[[], str]) -> None:
        self.engine = engine
        self.faults = faults
        self.moves = MoveTasks(engine)
        self.receiving = Receiving(engine, faults)
        self._actions: dict[str, Action] = {
            **QueueActions(engine).actions,
            **Sending(engine, faults, new_id).actions,
            **self.receiving.actions,
            **MoveActions(engine, self.moves).actions,
        }

    @property
    def names(self) -> set[str]:
        """Return the names of all actions."""
        return {*self._actions, "ReceiveMessage"}

    def knows(self, action: str) -> bool:
        """Tell whether there is such an action."""
        return action in self._actions or action == "ReceiveMessage"

    def handle(self, action: str, request: Json, call: Call) -> Json:
        """Do one action other than ReceiveMessage and return its reply.

        Raises:
            SqsError: what the client is to see instead.
        """
        return self._actions[action](request, call)
