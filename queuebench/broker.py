"""Celery's broker: all that touches how Celery keeps its tasks in Redis is here."""

from __future__ import annotations

from typing import Any

from queuebench import dead_letters, transport
from queuebench.dead_letters import DeadLetter
from queuebench.queues.base import Depth
from queuebench.redis_client import connect, explained

CELERY_QUEUE = "celery"


class Broker:
    """The Redis at `REDIS_CELERY_URL`."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)

    def check(self) -> None:
        """Raise unless the broker answers.

        Raises:
            QueueError: it does not.
        """
        with explained(self.client):
            self.client.ping()

    def add_dead_letter(self, letter: DeadLetter) -> None:
        """Keep what is given up.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            self.client.rpush(dead_letters.KEY, letter.encode())

    def backlog(self) -> Depth:
        """Count the tasks that wait and those that a worker has taken.

        Raises:
            QueueError: the broker does not answer.
        """
        with explained(self.client):
            return Depth(*transport.backlog(self.client, CELERY_QUEUE))


def celery_settings(url: str, slots: int) -> dict[str, Any]:
    """Return what the Celery app must be told so that a killed worker's tasks come back."""
    return transport.celery_settings(
        url,
        slots,
        dead_letters=dead_letters.KEY,
        dead_letter_record=lambda envelope, reason: dead_letters.of_task(envelope, reason).encode(),
    )
