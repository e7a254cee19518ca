"""Flood the queue under test with N messages: a `for` without `sleep()`.

    python publisher.py [MESSAGES] [--wait]

MESSAGES may be a list, 100,1000,10000: that many runs, one after the other. It exits 0 only when
the queue has accepted every message; with --wait, when every message has arrived as well.
"""

import argparse
import sys

from queuebench import settings
from queuebench.errors import QueueBenchError
from queuebench.pipeline.publisher import Publication


def main() -> int:
    """Publish, and follow the run to its end where that is asked for."""
    parser = argparse.ArgumentParser(description="Flood the queue that QUEUE names with messages.")
    parser.add_argument(
        "messages", nargs="?", help="how many, or a list of runs: 100,1000 (default: MESSAGES)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="follow the run to its end; exit with its verdict"
    )
    options = parser.parse_args()
    try:
        chosen = settings.load()
        bursts = settings.bursts(options.messages) if options.messages else chosen.messages
        return Publication(chosen, bursts, options.wait).run()
    except QueueBenchError as error:
        print(f"publisher: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("publisher: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
