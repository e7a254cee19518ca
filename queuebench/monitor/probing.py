"""Looks at the servers and at the endpoint: all of the monitor's I/O over the network, and no lock."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace
from redis import Redis

from queuebench.broker import dead_letters
from queuebench.broker.broker import Broker
from queuebench.errors import MessageError, QueueError, Unreachable
from queuebench.measuring import redis_usage
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.records import (
    DeadLettered,
    FormatError,
    Range,
    RunRecord,
    ServerRecord,
    Tally,
    Whole,
    decode,
)
from queuebench.measuring.run import MOST_MESSAGES
from queuebench.measuring.series import Held
from queuebench.plumbing.asker import Asker, Unanswered
from queuebench.plumbing.proxies import session_for
from queuebench.plumbing.redis_client import connect, explained
from queuebench.queues import Depth, open_queue
from queuebench.settings import Settings

DEAD_LETTERS_AT_ONCE = 500
# A dead letter's time is that of another machine.
CLOCK_MARGIN_SECONDS = 60.0
MOST_TALLY_BYTES = 64 * 2**20
TALLY_SECONDS = 15.0


class Sample(Struct, frozen=True):
    """What a look has found; `None` is what nobody could tell."""

    queue: Held | None
    celery: Held | None
    servers: dict[str, tuple[dict[str, Any], dict[str, str]]]  # INFO and configuration
    measuring_requests: dict[str, int]
    dead_letters: DeadLettered
    tally: Tally

    @property
    def empty(self) -> bool | None:
        """Whether queue, in-flight and Celery hold nothing; None: not known."""
        if self.queue is None or self.celery is None:
            return None
        return self.queue.total + self.celery.total == 0

    def servers_after(
        self, before: Mapping[str, ServerRecord], now: float, moved: bool
    ) -> dict[str, ServerRecord]:
        """Return the newest state of each server."""
        return {
            name: redis_usage.follow(before.get(name), info, config, now, moved)
            for name, (info, config) in self.servers.items()
        }


class _TallyAnswer(Struct, frozen=True):
    endpoint: str
    run: str
    distinct: Whole
    duplicates: Whole
    numbers: list[Range] = []


class Probe:
    """The queue under test, Celery's broker, and the endpoint, as the monitor sees them.

    Bounded: a MiB of dead letters at a time, and a tally's answer of `MOST_TALLY_BYTES`.
    """

    def __init__(self, settings: Settings) -> None:
        self._push_url = settings.push_url
        self._queue = open_queue(settings.queue, settings.options())
        self._broker = Broker(settings.redis_celery_url)
        self._redis = {"broker": self._broker.client}
        if settings.queue == "REDIS":
            self._redis["queue"] = connect(settings.redis_pubsub_url)
        self._asker = Asker(session_for(settings.push_url))
        self._config: dict[str, tuple[str, dict[str, str]]] = {}
        self._measured: Mapping[str, int] = {}
        self._dead_seen = _Seen()
        self._told: set[str] = set()

    def check(self) -> None:
        """Raise unless the servers let their users look, as far as they answer.

        Raises:
            QueueError: something is missing; the text says what, and how to grant it.
        """
        for try_rights in (partial(self._queue.try_rights, "look"), partial(self._broker.check, "look")):
            with contextlib.suppress(Unreachable):
                try_rights()

    def begin(self) -> Sample:
        """Look at what there is before a run is opened; what is there belongs to none."""
        self._measured = self._queue.requests()
        self._dead_seen = _Seen()
        with contextlib.suppress(QueueError):
            self._dead_seen = self._end_of_dead_letters()
        return Sample(self._depth(), self._backlog(), self._look_at_servers(), {}, DeadLettered(), Tally())

    def look(self, record: RunRecord) -> Sample:
        """Look at everything that tells how a run stands, and let the broker know which run it is."""
        self.note(record.run_id)
        spent = Counter(self._queue.requests())
        spent.subtract(self._measured)
        return Sample(
            self._depth(),
            self._backlog(),
            self._look_at_servers(),
            dict(+spent),
            self.dead_lettered(record),
            self.tally(record.run_id, record.tally),
        )

    def note(self, run_id: str) -> None:
        """Let the broker know which run is open, as far as it answers."""
        with contextlib.suppress(QueueError):
            self._broker.note_run(run_id)

    def noted_run(self) -> str | None:
        """Return the run that was opened last with this broker.

        Raises:
            QueueError: the broker does not answer.
        """
        return self._broker.noted_run()

    def dead_lettered(self, record: RunRecord) -> DeadLettered:
        """Return which of the run's messages became dead letters, reading only those that are new."""
        known = record.dead_letters
        try:
            numbers = Ranges(known.numbers)
            count = self._broker.count_dead_letters()
            seen = self._dead_seen
            if seen.length is not None and seen.length == count == 0:
                return known
            if seen.length is not None and count >= seen.length and self._still_there(seen):
                first = seen.length
                for letter in self._broker.dead_letters(first):
                    self._add(letter, record, numbers)
                    first += 1
                    seen = _Seen(first, letter)
            else:
                seen = self._read_backwards(record, numbers)
            self._dead_seen = seen
            return DeadLettered(len(numbers), numbers.to_json())
        except QueueError:
            return known

    def tally(self, run_id: str, known: Tally, numbers: bool = False) -> Tally:
        """Ask the endpoint what arrived: one that is not ours proves nothing, a silent one says nothing."""
        return self._tally(run_id, known, numbers) or known

    def last_word(self, run_id: str, known: Tally) -> Tally:
        """Ask which numbers arrived, at a run's end; what is known of before proves nothing of the end."""
        return self._tally(run_id, known, numbers=True) or replace(known, proven=None)

    def _tally(self, run_id: str, known: Tally, numbers: bool) -> Tally | None:
        """Ask the endpoint; None: no answer, or one about another run."""
        if not self._push_url:
            return replace(known, proven=False)
        parts = urlsplit(self._push_url)
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/tally"
        query = {"run": run_id, **({"numbers": "1"} if numbers else {})}
        found = None
        with contextlib.suppress(FormatError):
            try:
                answer = self._asker.ask(
                    "GET", url, query=query, seconds=TALLY_SECONDS, most_bytes=MOST_TALLY_BYTES
                )
            except Unanswered:
                return None
            if answer.status >= 500:
                return None
            if answer.status == 200:
                found = decode(answer.content, _TallyAnswer, "the endpoint's tally")
        if found is None or found.endpoint != "queuebench":
            return known if known.proven else replace(known, proven=False)
        if found.run != run_id:
            return None
        arrived = found.numbers if numbers else known.arrived
        return replace(
            known, proven=True, distinct=found.distinct, duplicates=found.duplicates, arrived=arrived
        )

    def _still_there(self, seen: _Seen) -> bool:
        """Tell whether what was read last still is where it was: none before it was taken out."""
        if not seen.length:
            return True
        return self._dead_letter(seen.length - 1) == seen.last

    def _dead_letter(self, position: int) -> bytes | None:
        return next(self._broker.dead_letters(position, position), None)

    def _end_of_dead_letters(self) -> _Seen:
        length = self._broker.count_dead_letters()
        if not length:
            return _Seen(0)
        last = self._dead_letter(length - 1)
        # Somebody takes some out at this moment: the next look begins again.
        return _Seen() if last is None else _Seen(length, last)

    def _read_backwards(self, record: RunRecord, numbers: Ranges) -> _Seen:
        """Read from the newest to those that are older than the run."""
        end = self._end_of_dead_letters()
        first = end.length or 0
        while first > 0:
            last, first = first - 1, max(0, first - DEAD_LETTERS_AT_ONCE)
            times = [self._add(letter, record, numbers) for letter in self._broker.dead_letters(first, last)]
            if all(at < record.started_at - CLOCK_MARGIN_SECONDS for at in times):
                break
        return end

    @staticmethod
    def _add(letter: bytes, record: RunRecord, numbers: Ranges) -> float:
        """Add the number of a dead letter of this run; return when it was written, 0: it does not tell."""
        try:
            found = dead_letters.DeadLetter.decode(letter)
        except MessageError:
            return 0.0
        number = found.number
        # Anybody can write to that list, and a message's own number goes further than a record's.
        if found.run == record.run_id and type(number) is int and 0 <= number < MOST_MESSAGES:
            numbers.add(number)
        return found.at if isinstance(found.at, float) else 0.0

    def _look_at_servers(self) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
        infos = {}
        for name, client in self._redis.items():
            with self._optional("INFO", f"what the Redis of the {name} used is not known"), explained(client):
                info: Any = client.info()
                infos[name] = (info, self._configuration(name, client, str(info.get("run_id"))))
        return infos

    def _configuration(self, name: str, client: Redis, run_id: str) -> dict[str, str]:
        """Ask once in a server's life how it keeps what it has; a managed one may not tell."""
        known = self._config.get(name)
        if known is None or known[0] != run_id:
            config: Any = {}
            loss = f"how often the Redis of the {name} writes to its disk is not known"
            with self._optional("CONFIG GET", loss), explained(client):
                config = client.config_get("appendonly", "appendfsync")
            known = self._config[name] = (run_id, config)
        return known[1]

    @contextlib.contextmanager
    def _optional(self, command: str, loss: str) -> Iterator[None]:
        """Do without what a server refuses, and say once what that leaves unknown."""
        try:
            yield
        except Unreachable:
            pass
        except QueueError as error:
            if loss not in self._told:
                self._told.add(loss)
                print(f"monitor: {error}; without {command}, {loss}", file=sys.stderr, flush=True)

    def _depth(self) -> Held | None:
        with contextlib.suppress(QueueError):
            return _held(self._queue.depth())
        return None

    def _backlog(self) -> Held | None:
        with contextlib.suppress(QueueError):
            return _held(self._broker.backlog())
        return None


class _Seen(Struct, frozen=True):
    """How far the list of dead letters was read, and what stood there last; None: not at all."""

    length: int | None = None
    last: bytes = b""


def _held(depth: Depth) -> Held:
    return Held(depth.waiting, depth.in_flight)
