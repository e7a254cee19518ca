"""Making and sending N messages, as fast as the client library allows or at a random pace."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from queuebench.errors import QueueError, Unreachable
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.queues import Queue

GIVE_UP_SECONDS = 60.0  # without one message accepted
LONGEST_PAUSE_SECONDS = 2.0

_TEXTS = (
    "Your order has left our warehouse and arrives tomorrow.",
    "Your verification code is 482913. Do not share it.",
    "Olá! Seu pedido saiu para entrega.",
    "Reminder: your appointment is on Friday at 14:30.",
    "Sua fatura vence amanhã. Acesse o app para pagar.",
)


class Pace:
    """When each message is meant to be sent: now for a flood, else after random pauses of 0..`delay`.

    A schedule, not a sleep after each: a send that stalls makes the next ones late, and it shows.
    """

    def __init__(self, delay: float, started_at: float, chance: Callable[[], float] = random.random) -> None:
        self._delay, self._next_at, self._chance = delay, started_at, chance

    def next_at(self) -> float:
        """Return the intended time of the next message in Unix seconds."""
        self._next_at += self._delay * self._chance()
        return self._next_at


@dataclass
class Outcome:
    """How a flood went."""

    accepted: int
    failure: str  # '' where every message was accepted


class Flood:
    """N messages of one run, numbered from `first`, in batches numbered from above `batch`.

    Bounded: a batch for each of the queue's `sends`, and 10,000 beginnings of messages.

    Floods that share a queue object need batch numbers that go on growing: a number that the queue
    has seen is a repetition to it.
    """

    def __init__(
        self,
        queue: Queue,
        run: str,
        first: int,
        messages: int,
        delay: float,
        telemetry: Telemetry,
        batch: int = 0,
    ) -> None:
        self._queue, self._run, self._telemetry = queue, run, telemetry
        self._first, self._messages, self._delay = first, messages, delay
        self._tail = b',"r":"%b"' % run.encode()
        self._heads = _heads()
        self._lock = threading.Lock()
        self._next, self._batch = first, batch
        self._failure = ""
        self._moved = time.monotonic()
        self.accepted = 0
        self.stopping = threading.Event()

    def run(self, progress: Callable[[int], None], every_seconds: float = 0.2) -> Outcome:
        """Send everything; call `progress` with the number accepted so far now and then."""
        cpu_before = time.process_time()
        paced = self._delay > 0
        work = self._send_paced if paced else self._send_flood
        lanes = [
            threading.Thread(target=work, args=(lane,), name=f"send-{lane}", daemon=True)
            for lane in range(1 if paced else self._queue.sends)
        ]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            while thread.is_alive():
                thread.join(timeout=every_seconds)
                progress(self.accepted)
        # A flood is often over within one report: only here is known what it cost while it went on.
        used = round((time.process_time() - cpu_before) * 1e6)
        self._telemetry.record(self._run, Stage.PUBLISH, counts={Count.PUBLISH_CPU_US: used})
        if not self._failure and self.accepted < self._messages:
            self._failure = "stopped"
        return Outcome(self.accepted, self._failure)

    def _send_flood(self, lane: int) -> None:
        batch = self._batch
        for first, last in self._chunks():
            batch = self._send(first, last, lane, batch, time.time())

    def _chunks(self) -> Iterator[tuple[int, int]]:
        end, size = self._first + self._messages, self._queue.batch_size
        while not self._done():
            with self._lock:
                first, last = self._next, min(self._next + size, end) - 1
                self._next = last + 1
            if first > last:
                return
            yield first, last

    def _send_paced(self, lane: int) -> None:
        pace = Pace(self._delay, time.time())
        batch = self._batch
        for number in range(self._first, self._first + self._messages):
            intended_at = pace.next_at()
            if self.stopping.wait(max(0.0, intended_at - time.time())) or self._done():
                return
            batch = self._send(number, number, lane, batch, intended_at)

    def _done(self) -> bool:
        return self.stopping.is_set() or bool(self._failure)

    def _send(self, first: int, last: int, lane: int, batch: int, intended_at: float) -> int:
        """Send the numbers `first` to `last` until all are accepted; return the last batch's number."""
        bodies = self._bodies(first, last, intended_at)
        numbers = list(range(first, last + 1))
        pause = 0.05
        batch += 1
        # However long its sending takes: that is what `publish` says.
        lateness = max(0.0, time.time() - intended_at)
        self._telemetry.record(self._run, Stage.PUBLISH_LATENESS, latencies=((lateness, last - first + 1),))
        while True:
            began_at, began = time.time(), time.perf_counter()
            try:
                refused = list(self._queue.publish(bodies, lane, batch))
            except Unreachable as error:
                # The reply may be lost, not the messages: the same batch again, under the same number.
                if self._out_of_patience(str(error)) or self.stopping.wait(pause):
                    return batch
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                continue
            except QueueError as error:
                self._failure = self._failure or str(error)
                return batch
            self._count(numbers, refused, began_at, time.perf_counter() - began)
            if not refused:
                return batch
            bodies, numbers = [bodies[p] for p in refused], [numbers[p] for p in refused]
            batch += 1
            if self._out_of_patience("the queue refuses entries of a batch") or self.stopping.wait(pause):
                return batch
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    def _out_of_patience(self, reason: str) -> bool:
        if time.monotonic() - self._moved > GIVE_UP_SECONDS:
            self._failure = self._failure or reason
        return bool(self._failure)

    def _count(self, numbers: list[int], refused: list[int], began_at: float, seconds: float) -> None:
        count = len(numbers) - len(refused)
        self._telemetry.record(
            self._run,
            Stage.PUBLISH,
            counts={Count.PUBLISHED: count},
            latencies=((seconds, count),) if count else (),
            started_at=began_at,
            ended_at=began_at + seconds,
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

    def _bodies(self, first: int, last: int, intended_at: float) -> list[bytes]:
        heads = self._heads
        tail = b'%b,"t":%.6f}' % (self._tail, intended_at)
        size = len(heads)
        return [b"%b%d%b" % (heads[number % size], number, tail) for number in range(first, last + 1)]


def _heads() -> list[bytes]:
    """Return the part of each message before its number: Brazilian mobile numbers and short texts.

    Made once and used in turn, because making a new one for each message would be most of its cost.
    """
    areas = (11, 21, 31, 41, 51, 61, 71, 81, 85, 92)
    return [
        b'{"p":"+55%d9%08d","m":"%b","i":'
        % (areas[n % len(areas)], random.randrange(10**8), _TEXTS[n % len(_TEXTS)].encode())
        for n in range(10_000)
    ]
