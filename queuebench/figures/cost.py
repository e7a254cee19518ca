"""What a queue and its workers cost: this run, a month at a stated volume, the break-even volume."""

from __future__ import annotations

from collections.abc import Mapping

from queuebench import prices
from queuebench.figures.records import Cost, SqsCalls
from queuebench.measuring.records import UsedSettings

DAYS_PER_MONTH = prices.HOURS_PER_MONTH / 24.0
# A subscriber's lane that finds nothing asks again after so long: `queues.sqs.Sqs.wait_seconds`.
LONG_POLL_SECONDS = 20.0


def billed(requests: Mapping[str, int]) -> int:
    """Return how many of the counted things are requests: AWS's actions begin with a capital."""
    return sum(count for action, count in requests.items() if action[:1].isupper())


def of_run(
    settings: UsedSettings,
    sqs: SqsCalls | None,
    messages: int,
    subscribers: int,
    worker_per_second: float,
) -> Cost:
    """Return what the run's requests cost, and what a month at `MESSAGES_PER_DAY` does.

    Args:
        settings: the run's.
        sqs: the calls to SQS; None: the queue is a Redis.
        messages: how many the queue accepted.
        subscribers: how many processes waited for messages.
        worker_per_second: how many messages one worker process carries; 0: not known.
    """
    a_day = settings.messages_per_day
    redis_month = settings.redis_usd_per_hour * prices.HOURS_PER_MONTH
    run_usd: float | None = None
    if sqs is not None:
        price = prices.sqs_usd_per_request(settings.queue_name)
        made = billed(sqs.requests)
        run_usd = made * price
        per_message = (made - sqs.empty_receives) / messages * price if messages else 0.0
        lanes = max(settings.sqs_threads, settings.sqs_queues) * max(1, subscribers)
        fixed = lanes * prices.HOURS_PER_MONTH * 3600.0 / LONG_POLL_SECONDS * price
    else:
        per_message, fixed = 0.0, redis_month
    workers_usd: float | None = None
    if worker_per_second:
        worker_hours = a_day * DAYS_PER_MONTH / worker_per_second / 3600.0
        workers_usd = round(worker_hours * settings.worker_usd_per_hour, 2)
    return Cost(
        sqs_usd=None if run_usd is None else round(run_usd, 6),
        messages_per_day=a_day,
        queue_usd_per_month=round(fixed + per_message * a_day * DAYS_PER_MONTH, 2),
        workers_usd_per_month=workers_usd,
        queue_usd_per_month_fixed=round(fixed, 4),
        queue_usd_per_million=round(per_message * 1e6, 6),
        redis_usd_per_month=round(redis_month, 2),
        break_even_messages_per_day=break_even(redis_month, fixed, per_message) if sqs is not None else None,
    )


def break_even(redis_usd_per_month: float, fixed_usd_per_month: float, usd_per_message: float) -> int | None:
    """Return the messages a day at which SQS costs what a Redis does; None: there is no such volume."""
    left = redis_usd_per_month - fixed_usd_per_month
    if left < 0 or usd_per_message <= 0:
        return None
    return round(left / usd_per_message / DAYS_PER_MONTH)
