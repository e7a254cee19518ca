"""What this transport, and kombu's beneath it, need of a Redis."""

from __future__ import annotations

from collections.abc import Sequence

from queuebench.broker.transport.keys import (
    CONDEMNED,
    IDLE,
    IN_FLIGHT,
    LEASES,
    PRIORITY_STEPS,
    QUARANTINE,
    SEPARATOR,
    SET_ASIDE,
)
from queuebench.plumbing.redis_rights import NOWHERE, Needs, Place, channel, key, together

_SCRIPT = "EVALSHA EVAL"
_BINDINGS = "_kombu.binding"


def _lists(queue: str) -> list[Place]:
    """Return the lists that a queue's messages wait in."""
    steps = [queue + (f"{SEPARATOR}{step}" if step else "") for step in PRIORITY_STEPS]
    return [key(f"{queue}*", name) for name in (*steps, f"{queue}{SEPARATOR}{QUARANTINE}")]


def to_count(queue: str) -> Needs:
    """Return what the backlog of a queue is counted with."""
    return together(
        {key(LEASES): "EVAL ZRANGE", key(CONDEMNED): "EVAL LLEN", key(f"{IN_FLIGHT}*"): "HLEN"},
        dict.fromkeys(_lists(queue), "EVAL LLEN"),
    )


def to_put(queue: str) -> Needs:
    """Return what putting tasks through kombu takes."""
    return together(
        dict.fromkeys(_lists(queue)[:-1], "LPUSH"),
        {
            key(f"{_BINDINGS}*", f"{_BINDINGS}.{queue}"): "SADD SMEMBERS",
            key(f"{_BINDINGS}*", f"{_BINDINGS}_permanent.{queue}"): "SADD",
            NOWHERE: "PING MULTI EXEC",
        },
    )


def to_work(queues: Sequence[str], dead_letters: str, db: int) -> Needs:
    """Return what a Celery worker takes: consuming, being controlled, and telling what it does."""
    mailbox, events = "*.celery.pidbox*", f"/{db}.celeryev/"
    own = {
        key(LEASES): f"{_SCRIPT} ZADD ZREM ZSCORE ZRANGEBYSCORE",
        key(CONDEMNED): f"{_SCRIPT} RPUSH LINDEX LREM",
        key(f"{IN_FLIGHT}*"): f"{_SCRIPT} HSET HGET HDEL HLEN HSCAN EXISTS",
        key(f"{IDLE}*"): f"{_SCRIPT} SADD SREM SISMEMBER DEL UNLINK",
        key(SET_ASIDE): f"{_SCRIPT} LPUSH",
        key(dead_letters): f"{_SCRIPT} RPUSH",
        NOWHERE: "PING TIME MULTI EXEC SCRIPT|LOAD SCRIPT|EXISTS",
    }
    lists = {place: f"{_SCRIPT} RPOP RPUSH LPUSH LLEN LINDEX" for queue in queues for place in _lists(queue)}
    for_control: Needs = {
        key(mailbox): "LLEN DEL",
        key(mailbox, "x.reply.celery.pidbox"): "LPUSH",
        key("celeryev*"): "LLEN DEL",
        key(f"{_BINDINGS}*"): f"{_SCRIPT} SADD SREM SMEMBERS DEL",
        key(f"{_BINDINGS}*", f"{_BINDINGS}_deadlines"): f"{_SCRIPT} ZADD ZREM ZRANGEBYSCORE",
        key(f"{_BINDINGS}*", f"{_BINDINGS}_permanent.x"): "SADD SREM EXISTS",
        channel(f"/{db}.celery.pidbox"): "PSUBSCRIBE PUNSUBSCRIBE PUBLISH",
        channel(f"{events}worker.*"): "PSUBSCRIBE PUNSUBSCRIBE",
        channel(f"{events}*", f"{events}task.multi"): "PUBLISH",
    }
    return together(own, lists, for_control)
