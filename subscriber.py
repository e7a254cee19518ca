"""Take messages from the queue under test and hand each to Celery as a `push_data` task.

    python subscriber.py

Each of its lanes, over and over:

1. Wait while Celery holds CELERY_BACKLOG_LIMIT tasks: a backlog belongs in the queue under test.
2. Receive a batch; it stays in flight, and comes back should this process die.
3. Hand the whole batch over to Celery, at once; what is no message becomes a dead letter.
4. Acknowledge it: only now is it gone from the queue.

Run as many as you like; stop one with Ctrl-C or SIGTERM.
"""

import sys

from queuebench.__main__ import run
from queuebench.pipeline import subscriber

if __name__ == "__main__":
    sys.exit(run("subscriber", subscriber.main, sys.argv[1:]))
