"""Long polls: who waits for which queue, and when there is something for them."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.wire import ClientGoneError


class Polls:
    """The polls that wait, by their queue; the one that waits longest is served first.

    Args:
        clock: returns seconds since the epoch, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[Queue, deque[asyncio.Future[None]]] = {}
        self._timers: dict[Queue, asyncio.TimerHandle] = {}
        self.stopping = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def wait(self, queue: Queue, seconds: float, gone: asyncio.Future[Any]) -> None:
        """Wait until something may be there for this poll, or the time is over.

        Raises:
            ClientGoneError: nobody waits for the answer any more.
        """
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(queue, deque())
        waiting.append(awake)
        self.wake(queue)
        try:
            await asyncio.wait({awake, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not awake.done():
                waiting.remove(awake)
        if gone.done():
            self.wake(queue)
            raise ClientGoneError

    def wake(self, queue: Queue) -> None:
        """Wake the poll that waits longest if there is something for it; else see to being called then."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()
        waiting = self._waiting.get(queue)
        if not waiting:
            self._waiting.pop(queue, None)
            return
        now = self._clock()
        queue.advance(now)
        if queue.deleted or self.stopping:
            while waiting:
                waiting.popleft().set_result(None)
        elif queue.has_deliverable() and queue.in_flight < queue.limits.in_flight:
            waiting.popleft().set_result(None)
        else:
            due = queue.next_due()
            if due is not None:
                loop = asyncio.get_running_loop()
                self._timers[queue] = loop.call_later(max(0.0, due - now), self.wake, queue)

    def stop(self) -> None:
        """Let every poll end at once."""
        self.stopping = True
        for queue in list(self._waiting):
            self.wake(queue)
