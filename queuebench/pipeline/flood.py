"""Making and sending the messages of one run: what is due, as soon as it is."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from queuebench.errors import QueueBenchError, QueueError, Throttled, Unreachable
from queuebench.load import bodies as made
from queuebench.load import pacing
from queuebench.load.bodies import Bodies, Portion
from queuebench.load.pacing import Schedule, Spacing
from queuebench.load.tenants import tenant_of, with_tenants
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.plumbing.outage import GIVE_UP_SECONDS, Outage
from queuebench.queues import Queue

LONGEST_PAUSE_SECONDS = 2.0
# So many latenesses of a batch are recorded, each for its neighbours too: all would cost as much as sending.
LATENESSES = 10


@dataclass
class Outcome:
    """How it went."""

    accepted: int
    sent: int  # that the queue was asked to accept, of those with a number
    unnumbered: int  # that were sent as they are
    behind: int  # that had been due for a while at the end, and were not sent
    failure: str  # '' where all went well


class _Taken(NamedTuple):
    """Messages that one lane is to send."""

    first: int  # number of the first that gets one
    times: Sequence[float]  # intended, in seconds from the start: of those that get numbers
    portion: Portion


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
        schedule: what is due when; none is sent before it is due, and none waits for another.
        bodies: what they are made of.
        telemetry: where the figures go.
        batch: see above.
        warm_up: for how many seconds messages carry no time, and are counted and no more.
        one_by_one: one message a call, one call after the other.
        tenants: how many share the queue; 0: none is named.
    """

    def __init__(
        self,
        queue: Queue,
        run: str,
        first: int,
        messages: int,
        schedule: Schedule,
        bodies: Bodies,
        telemetry: Telemetry,
        outage: Outage,
        batch: int = 0,
        warm_up: float = 0.0,
        one_by_one: bool = False,
        tenants: int = 0,
    ) -> None:
        self._outage = outage
        self._queue, self._run, self._telemetry = queue, run, telemetry
        self._first, self._end, self._batch = first, first + messages, batch
        held = max(1, made.HELD_BYTES // bodies.largest)
        self._lanes, self._most = (1, 1) if one_by_one else (queue.sends, min(queue.batch_size, held))
        self._schedule, self._source, self._warm_up = schedule, bodies, warm_up
        # A flood has no rate to keep: it tries again and again, and so finds out what a quota allows.
        self._spacing = None if isinstance(schedule, pacing.Flood) else Spacing()
        self._unnumbered = 0
        self._tenants = tenants
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
        if self._unnumbered:
            self._telemetry.record(self._run, Stage.PUBLISH, counts={Count.UNNUMBERED: self._unnumbered})
        self._telemetry.record(
            self._run, Stage.PUBLISH, counts={Count.PUBLISH_CPU_US: used, Count.INTENDED: behind}
        )
        sent, whole = self._next - self._first, self._next + self._unnumbered >= self._end
        if not self._failure and self.stopping.is_set() and (not whole or self.accepted < sent):
            self._failure = "stopped"
        return Outcome(self.accepted, sent, self._unnumbered, behind, self._failure)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _work(self, lane: int) -> None:
        batch = self._batch
        try:
            while taken := self._take():
                batch = self._send(taken, lane, batch)
        except QueueBenchError as error:
            self._fail(str(error))

    def _take(self) -> _Taken | None:
        """Wait until something is due and take it; None: it is over.

        One lane waits at a time, and the others for their turn: each message wakes one of them.
        """
        with self._turn:
            while not self.stopping.is_set() and (left := self._end - self._next - self._unnumbered) > 0:
                most = min(self._most, left)
                self._asked_at = now = self._now()
                due_at = self._schedule.next_at(now, most)
                if self._spacing is not None:
                    due_at = max(due_at, self._spacing.free_at)
                if due_at > now:
                    if due_at == math.inf:
                        break
                    self.stopping.wait(due_at - now)
                    self._moved = time.monotonic()
                elif times := self._schedule.due(now, most):
                    if self._spacing is not None:
                        with self._lock:
                            self._spacing.begin(now)
                    return self._number(times)
        return None

    def _number(self, times: list[float]) -> _Taken:
        first, portion = self._next, self._source.take(len(times))
        self._next += len(portion.heads)
        self._unnumbered += len(portion.as_they_are)
        if portion.places is not None:
            times = [times[place] for place in portion.places]
        return _Taken(first, times, portion)

    def _send(self, taken: _Taken, lane: int, batch: int) -> int:
        """Make messages and send them, in as many calls as it takes; return the last batch's number."""
        first, times, portion = taken
        cold = bisect_left(times, self._warm_up) if times and times[0] < self._warm_up else 0
        bodies = self._bodies(first, times, cold, portion)
        # However long its sending takes: that is what `publish` says.
        self._note_lateness(times, cold)
        for start, end in self._calls(bodies):
            numbers = range(first + start, first + min(end, len(times)))
            batch = self._deliver(bodies[start:end], numbers, first + cold, lane, batch + 1)
            if self.stopping.is_set():
                break
        return batch

    def _calls(self, bodies: Sequence[bytes]) -> Iterator[tuple[int, int]]:
        """Yield from where to where a call goes that is not larger than the queue takes."""
        most = self._queue.batch_bytes
        if len(bodies) * self._source.largest <= most:
            yield 0, len(bodies)
            return
        start = size = 0
        for end, body in enumerate(bodies):
            if end > start and size + len(body) > most:
                yield start, end
                start, size = end, 0
            size += len(body)
        yield start, len(bodies)

    def _deliver(
        self, bodies: Sequence[bytes], numbers: Sequence[int], warm_from: int, lane: int, batch: int
    ) -> int:
        """Send messages until all are accepted; return the last batch's number.

        Args:
            bodies: the messages; those beyond `numbers` are sent as they are.
            numbers: of the others.
            warm_from: the first number that is timed.
            lane: which sender this is.
            batch: a number above all that it had before.
        """
        pause = 0.05
        while True:
            began_at, began = time.time(), time.perf_counter()
            try:
                tenants = self._tenants_of(numbers, len(bodies))
                refused = list(self._queue.publish(bodies, lane, batch, tenants))
            except Throttled as error:
                wait = self._give_way(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                if self._out_of_patience(str(error)) or self.stopping.wait(wait):
                    return batch
                continue
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
            if self._spacing is not None and self._spacing.gap:
                with self._lock:
                    self._spacing.end(throttled=False)
            seconds, known = time.perf_counter() - began, len(numbers)
            self._count(numbers, [p for p in refused if p < known], warm_from, began_at, seconds)
            if not refused:
                return batch
            bodies, numbers = [bodies[p] for p in refused], [numbers[p] for p in refused if p < known]
            batch += 1
            if self._out_of_patience("the queue refuses entries of a batch") or self.stopping.wait(pause):
                return batch
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _tenants_of(self, numbers: Sequence[int], messages: int) -> Sequence[str]:
        if not self._tenants:
            return ()
        known = [tenant_of(number, self._tenants) for number in numbers]
        return known + [""] * (messages - len(known))

    def _bodies(self, first: int, times: Sequence[float], cold: int, portion: Portion) -> list[bytes]:
        heads = portion.heads
        if self._tenants:
            heads = with_tenants(heads, first, self._tenants)
        bodies = made.untimed(self._run, heads[:cold], first) if cold else []
        if cold < len(times):
            if not self._is_warm:
                self._is_warm, self._cpu_before = True, time.process_time()
            at = [self._began_at + seconds for seconds in times[cold:]]
            bodies += made.timed(self._run, heads[cold:] if cold else heads, first + cold, at)
        bodies += portion.as_they_are
        return bodies

    def _give_way(self, pause: float) -> float:
        """Return how long a throttled call has to wait: for its turn, or `pause` where there are no turns."""
        if self._spacing is None:
            return pause
        with self._lock:
            self._spacing.end(throttled=True)
            now = self._now()
            return self._spacing.begin(now) - now

    def _note_lateness(self, times: Sequence[float], cold: int) -> None:
        now, count = self._now(), len(times)
        if not count:
            return
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
        if not numbers:
            return
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
