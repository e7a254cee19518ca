from __future__ import annotations

import time
from typing import Any

from redis import Redis

from queuebench.broker.broker import CELERY_QUEUE
from queuebench.pipeline import subscriber
from queuebench.pipeline.subscriber import Subscription
from queuebench.settings import load


def test_what_one_lane_found_to_be_too_much_for_celery_the_others_need_not_count(
    redis: Redis, redis_url: str
) -> None:
    settings = load(
        {"REDIS_PUBSUB_URL": redis_url, "REDIS_CELERY_URL": redis_url, "CELERY_BACKLOG_LIMIT": "10"}
    )
    task: Any = None
    subscription = Subscription(settings, task, task)
    assert subscription._has_room()
    redis.rpush(CELERY_QUEUE, *range(10))
    redis.config_resetstat()
    began = time.monotonic()
    assert not any(subscription._has_room() for _ in range(100))
    looks = redis.info("commandstats")["cmdstat_eval"]["calls"]
    assert looks <= 2 + (time.monotonic() - began) / subscriber.ROOM_PAUSE_SECONDS
    redis.delete(CELERY_QUEUE)
    give_up_at = time.monotonic() + 30
    while not subscription._has_room():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
