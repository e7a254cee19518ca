"""Threads that do the parts of tasks, at most so many at once however many parts a task has."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any


class Slots:
    """A number of threads, or of greenlets where gevent has patched them.

    An executor's futures, each with a condition and a lock of its own, were a sixth of the worker's CPU;
    here a task waits for all of its parts at once. A part that only waits may lend its thread's place to
    another: there are at most `most` threads. What waits for one is bounded by the tasks that are held.
    """

    def __init__(self, slots: int, most: int = 0) -> None:
        self._slots, self._most = slots, max(slots, most)
        self._parts: SimpleQueue[tuple[_Task, Any]] = SimpleQueue()
        self._started = 0
        self._starting = threading.Lock()

    def each(self, act: Callable[[Any], object], parts: Sequence[Any]) -> Sequence[tuple[Any, BaseException]]:
        """Do `act` to every part, as slots become free; at their end, return those that failed, and how."""
        if not parts:
            return ()
        self._start(len(parts))
        task = _Task(act, len(parts))
        for part in parts:
            self._parts.put((task, part))
        task.ended.acquire()
        return task.failed

    def lend(self, places: int) -> None:
        """Let so many more threads work, or fewer again where it is negative: those that there are stay."""
        with self._starting:
            self._slots += places
        if places > 0:
            self._start(self._parts.qsize())

    def _start(self, more: int) -> None:
        if self._started < self._slots:
            with self._starting:
                for _ in range(min(more, min(self._slots, self._most) - self._started)):
                    self._started += 1
                    threading.Thread(target=self._work, name="slot", daemon=True).start()

    def _work(self) -> None:
        while True:
            task, part = self._parts.get()
            task.do(part)


class _Task:
    """What one task has to do, and what became of it."""

    __slots__ = ("_act", "_done", "_parts", "ended", "failed")

    def __init__(self, act: Callable[[Any], object], parts: int) -> None:
        self._act, self._parts = act, parts
        self._done = itertools.count(1)  # counts atomically, unlike +=
        self.failed: list[tuple[Any, BaseException]] = []
        self.ended = threading.Lock()
        self.ended.acquire()

    def do(self, part: Any) -> None:
        """Do one part; the last one ends the task."""
        try:
            self._act(part)
        except BaseException as failure:
            # A thread that is told to end, and a greenlet that is killed, have not done their part either.
            self.failed.append((part, failure))
        finally:
            if next(self._done) == self._parts:
                self.ended.release()
