"""The standard queue: best-effort order."""

from collections import deque
from collections.abc import Callable
from heapq import heappush
from typing import Any

from queuebench.local_sqs.message import DELAYED, WAITING, Message
from queuebench.local_sqs.queue import Queue


class StandardQueue(Queue):
    """Best-effort order: first in, first out, except that what comes back comes first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ready: deque[Message] = deque()
        super().__init__(*args, **kwargs)

    def _arrive(self, message: Message, now: float, delay_seconds: int) -> None:
        if delay_seconds:
            message.state = DELAYED
            message.due = message.due or now + delay_seconds
            self._tracked[message.n] = message
            heappush(self._timers, (message.due, message.n))
            self.delayed += 1
        else:
            self.waiting += 1
            self._place(message)

    def _place(self, message: Message) -> None:
        message.placed = True
        self._ready.append(message)

    def _return(self, message: Message) -> None:
        if not message.placed:
            message.placed = True
            self._ready.appendleft(message)

    def _take(self, limit: int, bury: Callable[[Message], None] | None) -> list[Message]:
        taken: list[Message] = []
        ready = self._ready
        while ready and len(taken) < limit:
            message = ready.popleft()
            message.placed = False
            if message.state != WAITING:
                continue
            if bury is not None and self._is_worn_out(message):
                bury(message)
                self._remove(message)
                continue
            taken.append(message)
        return taken

    def has_deliverable(self) -> bool:
        return self.waiting > 0

    def _release(self, taken: list[Message]) -> None:
        pass

    def _forget(self, message: Message) -> None:
        pass

    def _restore_in_flight(self, message: Message) -> None:
        pass

    def _check_handle_is_alive(self, message: Message, count: int, handle: str) -> None:
        pass

    def clear(self) -> None:
        super().clear()
        self._ready = deque()
