"""What the transport keeps in Redis: the names of its keys, and the scripts that work on them."""

from __future__ import annotations

from importlib.resources import files

import redis
from kombu.transport import redis as kombu_redis

PRIORITY_STEPS = tuple(kombu_redis.PRIORITY_STEPS)
SEPARATOR = kombu_redis.Channel.sep
QUARANTINE = "quarantine"
LEASES, CONDEMNED, IN_FLIGHT = "_leased.leases", "_leased.condemned", "_leased.flight."
IDLE = "_leased.idle."  # what of it has not begun
SET_ASIDE = "_leased.set-aside"  # what is too large to be fetched


def _script(name: str) -> str:
    folder = files(__package__)
    return (folder / "common.lua").read_text(encoding="utf-8") + (folder / f"{name}.lua").read_text(
        encoding="utf-8"
    )


CLAIM, KEEP, BURY, ACQUIT, BACKLOG = map(_script, ("claim", "keep", "bury", "acquit", "backlog"))


def backlog(client: redis.Redis, queue: str = "celery", prefix: str = "") -> tuple[int, int]:
    """Return how many messages wait in `queue`, and how many are in flight at all consumers.

    `prefix` is the transport option `global_keyprefix`. One call, whose cost does not grow with the backlog.
    """
    lists = [prefix + queue + (f"{SEPARATOR}{step}" if step else "") for step in PRIORITY_STEPS]
    keys = [prefix + LEASES, prefix + CONDEMNED, *lists, f"{prefix}{queue}{SEPARATOR}{QUARANTINE}"]
    waiting, in_flight = client.eval(BACKLOG, len(keys), *keys, prefix + IN_FLIGHT)
    return waiting, in_flight
