"""Signals that stop a worker wait until no message is in its hands."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from celery.concurrency import solo
from celery.signals import worker_ready
from celery.worker import state as worker_state

if TYPE_CHECKING:
    from queuebench.broker.transport.poller import Poller


def stopping() -> bool:
    """Return whether this process is a Celery worker that was told to stop, or has a signal to see to."""
    if Deferred.pending:
        return True
    stop, terminate = worker_state.should_stop, worker_state.should_terminate
    return (stop is not None and stop is not False) or (terminate is not None and terminate is not False)


class Deferred:
    """A signal handler that waits until the consumer has no message in its hands.

    Celery's own run wherever the signal finds the main thread, wait for the pool there, and may raise.
    Between a message and its task, kombu would take what they raise for the sign of a message that cannot
    be decoded, and Celery would acknowledge that one: lost. In a greenlet of the pool, or in the middle of
    handing it a task, they would wait for themselves.
    """

    consumer: ClassVar[Poller | None] = None
    pending: ClassVar[deque[tuple[Deferred, int]]] = deque()

    def __init__(self, handler: Callable[[int, Any], Any]) -> None:
        self.handler, self.pid = handler, os.getpid()

    def __call__(self, number: int, frame: Any) -> None:
        if self.consumer is None or self.pid != os.getpid():
            self.run(number, frame)
        else:
            self.pending.append((self, number))
            self.consumer.wake()

    def run(self, number: int, frame: Any = None) -> None:
        try:
            self.handler(number, frame)
        finally:
            self.install()  # Celery's handlers replace each other

    @classmethod
    def catch_up(cls) -> None:
        """Run what has been deferred."""
        while cls.pending:
            deferred, number = cls.pending.popleft()
            deferred.run(number)

    @classmethod
    def install(cls) -> None:
        """Defer the signals that stop a worker, where it has the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, cls):
                with contextlib.suppress(ValueError):
                    signal.signal(number, cls(handler))


def _defer_signals(sender: Any, **_: Any) -> None:
    """Defer them in a worker that is ready, unless its tasks run in the hands of the consumer."""
    if not isinstance(sender.pool, solo.TaskPool):
        Deferred.install()


worker_ready.connect(_defer_signals, weak=False)
