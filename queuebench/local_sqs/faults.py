"""What goes wrong on request, and how long a request takes: chance in one place."""

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from random import Random
from typing import Any

from queuebench.errors import SettingsError

# The distribution that latencies are drawn from, as seen by a client in the same region. What is
# published: AWS's developer guide and blog speak of "around" and "a bit less than" 20 ms on average
# from EC2 (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/throughput.html,
# https://aws.amazon.com/blogs/aws/scaling-with-amazon-sqs/); mqperf measured about 10 ms a send
# (https://softwaremill.com/mqperf/); sending plus receiving took 13.7 / 16.2 / 33.8 / 105 ms at
# p10 / p50 / p90 / p99 from one Lambda function to another
# (https://bitesizedserverless.com/bite/serverless-messaging-latency-compared/, 2022). Nobody publishes
# the distribution of one request, so the shape (log-normal) and its tail are an estimate from these:
# mean 13 ms, and the sum of two close to those four figures.
DEFAULT_MEDIAN_MS = 10.0
DEFAULT_P99_MS = 60.0
# the standard normal's 99th percentile
_Z99 = 2.3263478740408408


@dataclass(slots=True)
class Latency:
    """A log-normal distribution, by its median and 99th percentile (milliseconds); 0 is none."""

    median_ms: float = DEFAULT_MEDIAN_MS
    p99_ms: float = DEFAULT_P99_MS
    random: Random = field(default_factory=Random, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.median_ms <= self.p99_ms < 60_000):
            raise SettingsError("latencies must be 0 <= median <= p99 < 60000 ms")

    def draw_seconds(self) -> float:
        """Return how long the next request takes."""
        if not self.median_ms:
            return 0.0
        sigma = math.log(self.p99_ms / self.median_ms) / _Z99
        return self.random.lognormvariate(math.log(self.median_ms / 1000), sigma)


class Mishap(Enum):
    """What befalls one request."""

    THROTTLED = "throttled"
    ERROR_BEFORE = "answered 500, not done"
    ERROR_AFTER = "done, but answered 500"


@dataclass(slots=True)
class Faults:
    """Shares (0 to 1) of what goes wrong; all off by default.

    Args:
        duplicate_deliveries: of messages received from standard queues, delivered once more.
        failed_entries: of entries in batches, reported as Failed and not done.
        errors: of requests, answered 500; half of them were done all the same.
        throttling: of requests, refused with the throttling error.
    """

    duplicate_deliveries: float = 0.0
    failed_entries: float = 0.0
    errors: float = 0.0
    throttling: float = 0.0
    random: Random = field(default_factory=Random, repr=False)

    def __post_init__(self) -> None:
        self.change({})

    def shares(self) -> dict[str, float]:
        """Return the share of each fault."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "random"}

    def change(self, shares: dict[str, Any]) -> None:
        """Set some shares.

        Raises:
            SettingsError: a name is unknown, or a share is not 0 to 1.
        """
        known = self.shares()
        for name, share in (known | shares).items():
            if name not in known:
                raise SettingsError(f"no fault is called {name!r}; there are {', '.join(known)}")
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SettingsError(f"the share of {name} must be 0 to 1, not {share!r}")
        for name, share in shares.items():
            setattr(self, name, float(share))

    def duplicates(self) -> bool:
        """Tell whether this message is delivered twice."""
        return self.random.random() < self.duplicate_deliveries

    def fails_entry(self) -> bool:
        """Tell whether this entry of a batch fails."""
        return self.failed_entries > 0 and self.random.random() < self.failed_entries

    def mishap(self) -> Mishap | None:
        """Draw what befalls the next request."""
        if self.throttling and self.random.random() < self.throttling:
            return Mishap.THROTTLED
        if self.errors and self.random.random() < self.errors:
            return self.random.choice((Mishap.ERROR_BEFORE, Mishap.ERROR_AFTER))
        return None
