"""The bill: requests counted as AWS counts them, without its free tier."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from queuebench import prices


@dataclass(slots=True)
class Bill:
    """What was asked since the start, by queue type and action.

    Throttled requests and those answered 500 are counted apart and not priced: AWS does not say that
    it bills them. Other refusals are priced.
    """

    since: float
    _requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _billed: Counter[str] = field(default_factory=Counter)
    _empty_receives: Counter[str] = field(default_factory=Counter)
    _not_billed: Counter[str] = field(default_factory=Counter)

    def count(self, action: str, queue: str | None, payload_bytes: int, *, is_empty: bool = False) -> None:
        """Count one request; `queue` is the name of the queue that it was about, if any."""
        kind = _kind(queue)
        self._requests[kind, queue or "", action] += 1
        self._billed[kind] += prices.sqs_billed_requests(payload_bytes)
        if is_empty:
            self._empty_receives[kind] += 1

    def count_unbilled(self, code: str) -> None:
        """Count one request that AWS refused or failed for its own reasons."""
        self._not_billed[code] += 1

    @property
    def usd(self) -> float:
        """Return the price of all requests so far."""
        return sum(
            self._billed[kind] * price / 1_000_000 for kind, price in prices.SQS_USD_PER_MILLION.items()
        )

    def as_json(self) -> dict[str, Any]:
        """Return the whole bill."""
        by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in prices.SQS_USD_PER_MILLION}
        by_queue: dict[str, Counter[str]] = {}
        for (kind, queue, action), count in self._requests.items():
            by_kind[kind][action] += count
            if queue:
                by_queue.setdefault(queue, Counter())[action] += count
        return {
            "service": "local SQS",
            "since": self.since,
            "requests": {kind: dict(counts) for kind, counts in by_kind.items()},
            "empty_receives": {kind: self._empty_receives[kind] for kind in prices.SQS_USD_PER_MILLION},
            "billed_requests": {kind: self._billed[kind] for kind in prices.SQS_USD_PER_MILLION},
            "usd_per_million": prices.SQS_USD_PER_MILLION,
            "usd": round(self.usd, 9),
            "queues": {queue: dict(counts) for queue, counts in sorted(by_queue.items())},
            "not_billed": dict(self._not_billed),
        }


def _kind(queue: str | None) -> str:
    return prices.sqs_kind(queue or "")
