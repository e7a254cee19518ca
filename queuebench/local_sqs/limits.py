"""AWS's quotas: how many calls a second, how much in flight, how long to wait."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas that are in force.

    Sources: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-fifo.html
    and quotas-messages.html beside it; the API reference for the two 60-second waits.
    """

    fifo_calls_per_second: float = 300
    in_flight: float = 120_000
    # only so many of a FIFO queue's oldest messages are searched for free groups
    fifo_search: float = 120_000
    # between two purges of a queue, and between deleting and creating a queue of one name
    wait_seconds: float = 60


NO_LIMITS = Limits(fifo_calls_per_second=math.inf, in_flight=math.inf, fifo_search=math.inf, wait_seconds=0)


@dataclass(slots=True)
class CallRate:
    """A token bucket: at most so many calls a second, one second's worth at once."""

    calls_per_second: float
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False, default=-math.inf)

    def __post_init__(self) -> None:
        self._tokens = self._capacity

    @property
    def _capacity(self) -> float:
        return max(1.0, self.calls_per_second)

    def admits(self, now: float) -> bool:
        """Tell whether a call at this time (seconds) is within the rate, and count it if so."""
        if math.isinf(self.calls_per_second):
            return True
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self.calls_per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
