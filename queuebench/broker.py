"""Celery's broker: all that touches how Celery keeps its tasks in Redis is here."""

from __future__ import annotations

from typing import Any

from queuebench import dead_letters
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
        with explained(self.client), self.client.pipeline(transaction=False) as pipeline:
            pipeline.llen(CELERY_QUEUE)
            pipeline.hlen("unacked")
            waiting, taken = pipeline.execute()
        return Depth(waiting, taken)


def celery_settings(url: str, slots: int) -> dict[str, Any]:
    """Return what the Celery app must be told so that a killed worker's tasks come back."""
    return {
        "broker_url": url,
        "broker_connection_retry_on_startup": True,
        "broker_pool_limit": None,
        "broker_transport_options": {
            "visibility_timeout": 60,
            "max_connections": slots + 20,
            "polling_interval": 0.1,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
        },
        "worker_prefetch_multiplier": 2,
    }
