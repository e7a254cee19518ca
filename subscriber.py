"""Take messages from the queue under test and hand each to Celery as a `push_data` task.

Receive, hand over, acknowledge: whatever dies in between, the messages are still there. Run as
many as you like; stop one with Ctrl-C or SIGTERM.
"""

import sys

from queuebench import settings
from queuebench.errors import QueueBenchError
from queuebench.pipeline.subscriber import Subscription
from task import push_data, push_several


def main() -> int:
    """Run until stopped."""
    try:
        return Subscription(settings.load(), push_data, push_several).run()
    except QueueBenchError as error:
        print(f"subscriber: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
