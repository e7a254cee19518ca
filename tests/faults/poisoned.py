"""The project's Celery app, with a message that kills whoever ships it."""

import os
import signal

from queuebench.message import Message
from queuebench.pipeline.app import app
from queuebench.pipeline.worker import Shipping

__all__ = ["app"]

_ship = Shipping.ship


def _ship_or_die(self: Shipping, message: Message, handed_over_at: float | None) -> None:
    if message.text == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    _ship(self, message, handed_over_at)


Shipping.ship = _ship_or_die  # type: ignore[method-assign]
