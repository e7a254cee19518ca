"""The project's Celery app, with a message that kills whoever ships it."""

import os
import signal

import task
from queuebench.message import Message

app = task.app
_ship = task.ship


def _ship_or_die(message: Message, handed_over_at: float | None) -> None:
    if message.text == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    _ship(message, handed_over_at)


task.ship = _ship_or_die
