"""What AWS charges, and what the defaults for machines are: list prices, us-east-1, without a free tier."""

# USD per million requests, the first 100 billion a month, read 2026-11-23: https://aws.amazon.com/sqs/pricing/
SQS_USD_PER_MILLION = {"standard": 0.40, "fifo": 0.50}
# "Each 64 KB chunk of a payload is billed as 1 request", same page
SQS_BILLED_BYTES = 64 * 1024
# ElastiCache cache.t4g.small and EC2 c7g.medium, on demand, by the hour, read 2026-11.
REDIS_USD_PER_HOUR = 0.032
WORKER_USD_PER_HOUR = 0.0363
# What AWS's own calculator takes a month for.
HOURS_PER_MONTH = 730.0


def sqs_kind(queue_name: str) -> str:
    """Return which of the two kinds a queue of this name is."""
    return "fifo" if queue_name.endswith(".fifo") else "standard"


def sqs_usd_per_request(queue_name: str) -> float:
    """Return the price of one billed request to a queue of this name."""
    return SQS_USD_PER_MILLION[sqs_kind(queue_name)] / 1e6


def sqs_billed_requests(payload_bytes: int) -> int:
    """Return how many requests are billed for one with this payload."""
    return max(1, -(-payload_bytes // SQS_BILLED_BYTES))
