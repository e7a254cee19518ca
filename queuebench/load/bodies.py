"""What messages say: bodies that are made fast, thousands at a time.

A message's number, run and time come last in its body, so that what stands before them, its head, is made
once and used again.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from queuebench.errors import SettingsError
from queuebench.settings import Settings

_TEXTS = (
    "Your order has left our warehouse and arrives tomorrow.",
    "Your verification code is 482913. Do not share it.",
    "Olá! Seu pedido saiu para entrega.",
    "Reminder: your appointment is on Friday at 14:30.",
    "Sua fatura vence amanhã. Acesse o app para pagar.",
)
_AREAS = (11, 21, 31, 41, 51, 61, 71, 81, 85, 92)
_HEADS = 10_000
HELD_BYTES = 16 * 2**20  # of heads
# What number, run and time take at the most.
ADDED_BYTES = 100
_OURS = {"r", "i", "t"}

Refuses = Callable[[bytes], str]  # why a queue would never take a body; '' where it would


class Portion(NamedTuple):
    """What some messages are made of: heads of those that get numbers, bodies that are sent as they are."""

    heads: Sequence[bytes]
    as_they_are: Sequence[bytes] = ()
    places: Sequence[int] | None = None  # which of the messages have heads; None: all


class Bodies(ABC):
    """Heads to make messages of, in turn. Used by one thread at a time."""

    largest: int  # bytes of the largest message

    @abstractmethod
    def take(self, messages: int) -> Portion:
        """Return what the next messages are made of.

        Raises:
            SettingsError: it cannot be read any more.
        """


class Texts(Bodies):
    """Texts to Brazilian mobile numbers: short ones, or of a certain size.

    Bounded: 10,000 heads, or as many as fit into 16 MiB.
    """

    def __init__(self, text_bytes: int = 0) -> None:
        sized = _sized(text_bytes) if text_bytes else ""
        texts = [text.encode() for text in ((sized,) if sized else _TEXTS)]
        self.largest = max(map(len, texts)) + 40 + ADDED_BYTES
        self._heads = [
            b'{"p":"+55%d9%08d","m":"%b","i":'
            % (_AREAS[n % len(_AREAS)], random.randrange(10**8), texts[n % len(texts)])
            for n in range(max(1, min(_HEADS, HELD_BYTES // self.largest)))
        ]
        self._at = 0

    def take(self, messages: int) -> Portion:
        end = self._at + messages
        heads = self._heads[self._at : end]
        while len(heads) < messages:
            heads += self._heads[: messages - len(heads)]
        self._at = end % len(self._heads)
        return Portion(heads)


def _sized(size: int) -> str:
    text = " ".join(text for text in _TEXTS if text.isascii()) + " "
    return (text * (size // len(text) + 1))[:size]


class Lines(Bodies):
    """The lines of a file, again and again; those that are JSON objects get numbers.

    Bounded: what is larger than 16 MiB is read anew each time, one line at a time.
    """

    def __init__(self, path: str, refuses: Refuses) -> None:
        """Look at every line once.

        Args:
            path: the file.
            refuses: tells why the queue would never take a body.

        Raises:
            SettingsError: it cannot be read, or has a line that the queue would never take.
        """
        self._called = f"MESSAGES_FILE={path!r}"
        try:
            if not Path(path).is_file():
                raise SettingsError(f"{self._called} is no file")
            self._file: BinaryIO = Path(path).open("rb")  # noqa: SIM115
            whole, lines, longest = 0, 0, 0
            for number, line in self._read():
                head = head_of(line)
                largest = line if head is None else head + b" " * ADDED_BYTES
                if reason := refuses(largest):
                    raise SettingsError(f"{self._called}, line {number}: {reason}")
                whole, lines, longest = whole + len(line), lines + 1, max(longest, len(largest))
            if not lines:
                raise SettingsError(f"{self._called} has no line")
            self.largest = longest
            self._next: Iterator[tuple[bytes | None, bytes]]
            if whole <= HELD_BYTES:
                self._next = cycle([(head_of(line), line) for _, line in self._read()])
            else:
                self._next = self._for_ever()
        except OSError as error:
            raise SettingsError(f"{self._called} cannot be read: {error.strerror}") from None

    def take(self, messages: int) -> Portion:
        heads, as_they_are, places = [], [], []
        for place in range(messages):
            head, line = next(self._next)
            if head is None:
                as_they_are.append(line)
            else:
                heads.append(head)
                places.append(place)
        return Portion(heads, as_they_are, places if as_they_are else None)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for number in count(1):
            line = self._file.readline(HELD_BYTES + 1)
            if len(line) > HELD_BYTES:
                raise SettingsError(f"{self._called}, line {number} is longer than {HELD_BYTES:,} bytes")
            if not line:
                return
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line := line.strip():
                yield number, line

    def _for_ever(self) -> Iterator[tuple[bytes | None, bytes]]:
        while True:
            seen = False
            try:
                for _, line in self._read():
                    seen = True
                    yield head_of(line), line
            except OSError as error:
                raise SettingsError(f"{self._called} cannot be read any more: {error.strerror}") from None
            if not seen:
                raise SettingsError(f"{self._called} is empty now")


def of_settings(settings: Settings, refuses: Refuses) -> Bodies:
    """Return what messages say, by the settings.

    Raises:
        SettingsError: a message would be larger than the queue takes, or a file cannot be used.
    """
    if settings.messages_file:
        return Lines(settings.messages_file, refuses)
    texts = Texts(settings.message_bytes)
    if reason := refuses(b" " * texts.largest):
        raise SettingsError(f"MESSAGE_BYTES={settings.message_bytes}: with its number, run and time {reason}")
    return texts


def untimed(run: str, heads: Sequence[bytes], first: int) -> list[bytes]:
    """Return messages from number `first` on, without the time at which they are meant to be sent."""
    tail = b',"r":"%b"}' % run.encode()
    return [b"%b%d%b" % (head, number, tail) for number, head in enumerate(heads, first)]


def timed(run: str, heads: Sequence[bytes], first: int, times: Sequence[float]) -> list[bytes]:
    """Return messages from number `first` on.

    Args:
        run: the run's id.
        heads: one each.
        first: the first one's number.
        times: when they are meant to be sent, in Unix seconds and ascending.
    """
    if times[0] == times[-1]:
        tail = b',"r":"%b","t":%.6f}' % (run.encode(), times[0])
        return [b"%b%d%b" % (head, number, tail) for number, head in enumerate(heads, first)]
    bodies: list[bytes] = []
    while len(bodies) < len(times):
        # The digits of a fraction cost half of what all of them do, and the others are the same for many.
        at = len(bodies)
        second = int(times[at])
        end = bisect_left(times, second + 1, at)
        middle = b',"r":"%b","t":%d.' % (run.encode(), second)
        bodies += [
            b"%b%d%b%06d}" % (head, number, middle, int((time - second) * 1e6))
            for number, head, time in zip(
                range(first + at, first + end), heads[at:end], times[at:end], strict=True
            )
        ]
    return bodies


def head_of(line: bytes) -> bytes | None:
    """Return a JSON object up to where its number goes, without its own r, i and t; None: it is none."""
    try:
        keys = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        # A number that no double holds is one all the same.
        if "infinity" not in str(error):
            return None
        keys = None
    try:
        members = _members(line) if keys is None or (isinstance(keys, dict) and keys.keys() & _OURS) else None
    except (ValueError, RecursionError):
        return None
    if members is not None:
        line = b"{%b}" % b",".join(text.encode() for key, text in members if key not in _OURS)
        keys = {key: None for key, _ in members if key not in _OURS}
    elif not isinstance(keys, dict):
        return None
    return line[:-1] + (b',"i":' if keys else b'"i":')


_DECODER = json.JSONDecoder(parse_float=str, parse_int=str)
_SPACE = " \t\n\r"


def _members(line: bytes) -> list[tuple[str, str]]:
    """Return each key of a JSON object with all that stands between the commas around it.

    Raises:
        ValueError: it is no JSON object.
    """
    text = line.decode()
    if not text.startswith("{"):
        raise ValueError("not an object")
    members: list[tuple[str, str]] = []
    at = 1
    while text[_over_space(text, at)] != "}" or members:
        start = at
        key, at = _DECODER.raw_decode(text, _over_space(text, at))
        at = _over_space(text, _over_space(text, at) + 1)  # the colon
        _, at = _DECODER.raw_decode(text, at)
        end = _over_space(text, at)
        members.append((str(key), text[start:end]))
        if text[end] == "}":
            break
        at = end + 1
    return members


def _over_space(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
