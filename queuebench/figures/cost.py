"""What a queue and its workers cost: list prices, a month at a stated volume, the break-even volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# USD per request, the first 100 billion a month, us-east-1, without the free tier, read 2026-11-23:
# https://aws.amazon.com/sqs/pricing/
SQS_USD_PER_REQUEST = {"standard": 0.40e-6, "FIFO": 0.50e-6}
# What AWS's own calculator takes a month for.
HOURS_PER_MONTH = 730.0
DAYS_PER_MONTH = HOURS_PER_MONTH / 24.0
# A subscriber's lane that finds nothing asks again after so long: `queues.sqs.Sqs.wait_seconds`.
LONG_POLL_SECONDS = 20.0
SOURCE = (
    "list prices, us-east-1, November 2026: SQS $0.40 (FIFO $0.50) per million requests; a Redis and a "
    "worker by the hour as REDIS_USD_PER_HOUR and WORKER_USD_PER_HOUR say (defaults: ElastiCache "
    "cache.t4g.small, EC2 c7g.medium, on demand)"
)


def sqs_kind(settings: Mapping[str, Any]) -> str:
    """Return which kind of SQS queue the settings name."""
    return "FIFO" if str(settings["QUEUE_NAME"]).endswith(".fifo") else "standard"


def billed(requests: Mapping[str, int]) -> int:
    """Return how many of the counted things are requests: AWS's actions begin with a capital."""
    return sum(count for action, count in requests.items() if action[:1].isupper())


def of_run(
    queue: str,
    settings: Mapping[str, Any],
    messages: int,
    subscribers: int,
    requests: Mapping[str, int],
    worker_per_second: float,
) -> dict[str, Any]:
    """Return what the run's requests cost, and what a month at `MESSAGES_PER_DAY` does.

    Args:
        queue: the name that `QUEUE` has.
        settings: the run's, by the names that they have in `.env`.
        messages: how many the queue accepted.
        subscribers: how many processes waited for messages.
        requests: SQS calls by action, as billed, and `empty_receives` among them.
        worker_per_second: how many messages one worker process carries; 0: not known.
    """
    a_day = int(settings["MESSAGES_PER_DAY"])
    redis_month = settings["REDIS_USD_PER_HOUR"] * HOURS_PER_MONTH
    run_usd: float | None = None
    if queue == "SQS":
        price = SQS_USD_PER_REQUEST[sqs_kind(settings)]
        run_usd = billed(requests) * price
        useful = billed(requests) - requests.get("empty_receives", 0)
        per_message = useful / messages * price if messages else 0.0
        lanes = max(settings["SQS_THREADS"], settings["SQS_QUEUES"]) * max(1, subscribers)
        fixed = lanes * HOURS_PER_MONTH * 3600.0 / LONG_POLL_SECONDS * price
    else:
        per_message, fixed = 0.0, redis_month
    worker_seconds = a_day * DAYS_PER_MONTH / worker_per_second if worker_per_second else None
    return {
        "sqs_usd": None if run_usd is None else round(run_usd, 6),
        "messages_per_day": a_day,
        "queue_usd_per_month": round(fixed + per_message * a_day * DAYS_PER_MONTH, 2),
        "workers_usd_per_month": None
        if worker_seconds is None
        else round(worker_seconds / 3600.0 * settings["WORKER_USD_PER_HOUR"], 2),
        "queue_usd_per_month_fixed": round(fixed, 4),
        "queue_usd_per_million": round(per_message * 1e6, 6),
        "redis_usd_per_month": round(redis_month, 2),
        "break_even_messages_per_day": break_even(redis_month, fixed, per_message)
        if queue == "SQS"
        else None,
        "source": SOURCE,
    }


def break_even(redis_usd_per_month: float, fixed_usd_per_month: float, usd_per_message: float) -> int | None:
    """Return the messages a day at which SQS costs what a Redis does; None: there is no such volume."""
    left = redis_usd_per_month - fixed_usd_per_month
    if left < 0 or usd_per_message <= 0:
        return None
    return round(left / usd_per_message / DAYS_PER_MONTH)
