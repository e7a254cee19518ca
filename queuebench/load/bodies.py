"""What messages say: bodies that are made fast, thousands at a time."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence

_TEXTS = (
    "Your order has left our warehouse and arrives tomorrow.",
    "Your verification code is 482913. Do not share it.",
    "Olá! Seu pedido saiu para entrega.",
    "Reminder: your appointment is on Friday at 14:30.",
    "Sua fatura vence amanhã. Acesse o app para pagar.",
)
_HEADS = 10_000


class Texts:
    """Short texts to Brazilian mobile numbers, as messages of a run.

    The part before a message's number is made once and used in turn: making a new one for each message would
    be most of its cost.
    """

    def __init__(self, run: str) -> None:
        areas = (11, 21, 31, 41, 51, 61, 71, 81, 85, 92)
        self._heads = [
            b'{"p":"+55%d9%08d","m":"%b","i":'
            % (areas[n % len(areas)], random.randrange(10**8), _TEXTS[n % len(_TEXTS)].encode())
            for n in range(_HEADS)
        ]
        self._run = b',"r":"%b"' % run.encode()

    def untimed(self, first: int, count: int) -> list[bytes]:
        """Return messages from number `first` on, without the time at which they are meant to be sent."""
        return self._ended(first, count, self._run + b"}")

    def timed(self, first: int, times: Sequence[float]) -> list[bytes]:
        """Return messages from number `first` on.

        Args:
            first: the first one's number.
            times: when they are meant to be sent, in Unix seconds and ascending.
        """
        if times[0] == times[-1]:
            return self._ended(first, len(times), b'%b,"t":%.6f}' % (self._run, times[0]))
        heads, size = self._heads, len(self._heads)
        bodies: list[bytes] = []
        while len(bodies) < len(times):
            # The digits of a fraction cost half of what all of them do, and the others are the same for many.
            at = len(bodies)
            second = int(times[at])
            middle = b'%b,"t":%d.' % (self._run, second)
            bodies += [
                b"%b%d%b%06d}" % (heads[number % size], number, middle, int((time - second) * 1e6))
                for number, time in enumerate(times[at : bisect_left(times, second + 1, at)], first + at)
            ]
        return bodies

    def _ended(self, first: int, count: int, tail: bytes) -> list[bytes]:
        heads, size = self._heads, len(self._heads)
        return [b"%b%d%b" % (heads[number % size], number, tail) for number in range(first, first + count)]
