"""Making and sending the messages of one run: what is due, as soon as it is."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from queuebench.errors import QueueError, Unreachable
from queuebench.load.bodies import Texts
from queuebench.load.pacing import Schedule
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.plumbing.outage import GIVE_UP_SECONDS, Outage
from queuebench.queues import Queue

LONGEST_PAUSE_SECONDS = 2.0
# So many latenesses of a batch are recorded, each for its neighbours too: all would cost as much as sending.
LATENESSES = 20


@dataclass
class Outcome:
    """How it went."""

    accepted: int
    sent: int  # that the queue was asked to accept
    behind: int  # that had been due for a while at the end, and were not sent
    failure: str  # '' where all went well


class Flood:
    """Messages of one run, numbered from `first`, in batches numbered from above `batch`.

    Bounded: a batch for each of the queue's `sends`, and 10,000 beginnings of messages.

    Floods that share a queue object need batch numbers that go on growing: a number that the queue
    has seen is a repetition to it.

    Args:
        queue: where to.
        run: its id.
        first: the first number.
        messages: how many at the most; the schedule may end before.
        schedule: what is due when; None of it is waited for, and none is sent before it is due.
        telemetry: where the figures go.
        batch: see above.
        warm_up: for how many seconds messages carry no time, and are counted and no more.
        one_by_one: one message a call, one call after the other.
    """

    def __init__(
        self,
        queue: Queue,
        run: str,
        first: int,
        messages: int,
        schedule: Schedule,
        telemetry: Telemetry,
        outage: Outage,
        batch: int = 0,
        warm_up: float = 0.0,
        one_by_one: bool = False,
    ) -> None:
        self._outage = outage
        self._queue, self._run, self._telemetry = queue, run, telemetry
        self._first, self._end, self._batch = first, first + messages, batch
        self._lanes, self._most = (1, 1) if one_by_one else (queue.sends, queue.batch_size)
        self._schedule, self._texts, self._warm_up = schedule, Texts(run), warm_up
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._next = first
        self._failure = ""
        self._asked_at = 0.0
        self._moved = time.monotonic()
        self.accepted = 0
        self.stopping = threading.Event()

    def run(self, progress: Callable[[int], None], every_seconds: float = 0.2) -> Outcome:
        """Send everything; call `progress` with the number accepted so far now and then."""
        self._cpu_before = time.process_time()
        self._is_warm = False
        self._began, self._began_at = time.monotonic(), time.time()
        lanes = [
            threading.Thread(target=self._work, args=(lane,), name=f"send-{lane}", daemon=True)
            for lane in range(self._lanes)
        ]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            while thread.is_alive():
                thread.join(timeout=every_seconds)
                progress(self.accepted)
        # A flood is often over within one report: only here is known what it cost while it went on.
        used = round((time.process_time() - self._cpu_before) * 1e6)
        behind = self._schedule.rest(self._asked_at)
        self._telemetry.record(
            self._run, Stage.PUBLISH, counts={Count.PUBLISH_CPU_US: used, Count.INTENDED: behind}
        )
        sent = self._next - self._first
        if not self._failure and self.stopping.is_set() and (self._next < self._end or self.accepted < sent):
            self._failure = "stopped"
        return Outcome(self.accepted, sent, behind, self._failure)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _work(self, lane: int) -> None:
        batch = self._batch
        while taken := self._take():
            batch = self._send(*taken, lane, batch)

    def _take(self) -> tuple[int, list[float]] | None:
        """Wait until something is due and take it: its first number and intended times; None: it is over.

        One lane waits at a time, and the others for their turn: each message wakes one of them.
        """
        with self._turn:
            while not self.stopping.is_set() and self._next < self._end:
                most = min(self._most, self._end - self._next)
                self._asked_at = now = self._now()
                due_at = self._schedule.next_at(now, most)
                if due_at > now:
                    if due_at == math.inf:
                        break
                    self.stopping.wait(due_at - now)
                    self._moved = time.monotonic()
                elif times := self._schedule.due(now, most):
                    first = self._next
                    self._next += len(times)
                    return first, times
        return None

    def _send(self, first: int, times: list[float], lane: int, batch: int) -> int:
        """Send messages, from number `first` on, until all are accepted; return the last batch's number."""
        cold = bisect_left(times, self._warm_up) if times[0] < self._warm_up else 0
        bodies = self._bodies(first, times, cold)
        numbers: Sequence[int] = range(first, first + len(times))
        pause = 0.05
        batch += 1
        # However long its sending takes: that is what `publish` says.
        self._note_lateness(times, cold)
        while True:
            began_at, began = time.time(), time.perf_counter()
            try:
                refused = list(self._queue.publish(bodies, lane, batch))
            except Unreachable as error:
                # The reply may be lost, not the messages: the same batch again, under the same number.
                self._outage.away(f"send {lane}", error)
                if self._out_of_patience(str(error)) or self.stopping.wait(pause):
                    return batch
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                continue
            except QueueError as error:
                self._fail(str(error))
                return batch
            self._outage.back(f"send {lane}")
            self._count(numbers, refused, first + cold, began_at, time.perf_counter() - began)
            if not refused:
                return batch
            bodies, numbers = [bodies[p] for p in refused], [numbers[p] for p in refused]
            batch += 1
            if self._out_of_patience("the queue refuses entries of a batch") or self.stopping.wait(pause):
                return batch
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _bodies(self, first: int, times: Sequence[float], cold: int) -> list[bytes]:
        bodies = self._texts.untimed(first, cold) if cold else []
        if cold < len(times):
            if not self._is_warm:
                self._is_warm, self._cpu_before = True, time.process_time()
            bodies += self._texts.timed(first + cold, [self._began_at + at for at in times[cold:]])
        return bodies

    def _note_lateness(self, times: Sequence[float], cold: int) -> None:
        now, count = self._now(), len(times)
        each = -(-count // LATENESSES) if times[0] != times[-1] else count
        self._telemetry.record(
            self._run,
            Stage.PUBLISH_LATENESS,
            counts={Count.INTENDED: count},
            latencies=[
                (now - times[(at + min(at + each, count)) // 2], min(each, count - at))
                for at in range(cold, count, each)
            ],
        )

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self.stopping.set()

    def _out_of_patience(self, reason: str) -> bool:
        if time.monotonic() - self._moved > GIVE_UP_SECONDS:
            self._fail(reason)
        return bool(self._failure)

    def _count(
        self, numbers: Sequence[int], refused: list[int], warm_from: int, began_at: float, seconds: float
    ) -> None:
        count = len(numbers) - len(refused)
        warm = len(numbers) - bisect_left(numbers, warm_from)
        warm -= sum(numbers[position] >= warm_from for position in refused)
        self._telemetry.record(
            self._run,
            Stage.PUBLISH,
            counts={Count.PUBLISHED: count} | ({Count.UNTIMED: count - warm} if warm < count else {}),
            latencies=((seconds, warm),) if warm else (),
            started_at=began_at,
            ended_at=began_at + seconds if numbers[-1] >= warm_from else 0.0,
        )
        if not refused:
            self._telemetry.accepted(self._run, numbers[0], numbers[-1])
        else:
            for position in set(range(len(numbers))) - set(refused):
                self._telemetry.accepted(self._run, numbers[position], numbers[position])
        with self._lock:
            self.accepted += count
            if count:
                self._moved = time.monotonic()
