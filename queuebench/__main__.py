"""The command line: `python -m queuebench VERB …`; each verb is a module with `main(argv)`."""

import importlib
import sys

from queuebench.errors import QueueBenchError

VERBS = {
    "bench": ("queuebench.bench.bench", "both queues, side by side, without Docker"),
    "dead-letters": ("queuebench.broker.resend", "lists what was given up, and sends it again"),
    "endpoint": ("queuebench.endpoint.endpoint", "answers POSTs after PUSH_SECONDS and keeps the tally"),
    "monitor": ("queuebench.monitor.http", "opens and closes runs, keeps the figures, writes the results"),
    "report": ("queuebench.report", "runs side by side, in the terminal and as one HTML file"),
    "sqs": ("queuebench.local_sqs", "a local SQS that behaves, limits and bills like AWS"),
}


def main(argv: list[str]) -> int:
    """Run one verb and return its exit code; 2 for bad usage."""
    if not argv or argv[0] not in VERBS:
        print("usage: python -m queuebench VERB [options]\n", file=sys.stderr)
        for verb, (_, what) in VERBS.items():
            print(f"  {verb:14} {what}", file=sys.stderr)
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    module = importlib.import_module(VERBS[argv[0]][0])
    try:
        return int(module.main(argv[1:]))
    except QueueBenchError as error:
        print(f"queuebench {argv[0]}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
