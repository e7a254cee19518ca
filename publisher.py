"""Flood the queue under test with N messages: a `for` without `sleep()`.

    python publisher.py [MESSAGES] [--wait]

MESSAGES may be a list, 100,1000,10000: that many runs, one after the other.

1. Join the run that is open, or open one, at the monitor: it gives out the messages' numbers.
2. Send batches as fast as the queue takes them, or each message when it is due: RATE, PROFILE and
   PUBLISHER_DELAY say when, DURATION until when. A batch whose answer never came is sent again,
   under the same numbers.
3. Leave the run, and tell which numbers the queue has accepted.
4. With --wait: follow the run to its end.

It exits 0 only when the queue has accepted every message; with --wait, when every message has
arrived as well.
"""

import sys

from queuebench.__main__ import run
from queuebench.pipeline import publisher

if __name__ == "__main__":
    sys.exit(run("publisher", publisher.main, sys.argv[1:]))
