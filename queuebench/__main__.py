"""The command line: `queuebench VERB …`; each verb is a module with `main(argv)`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from queuebench.errors import QueueBenchError
from queuebench.plumbing.printable import make_output_safe

VERBS = {
    "bench": ("queuebench.experiment.bench", "both queues, side by side, without Docker"),
    "dead-letters": ("queuebench.broker.resend", "lists what was given up, and sends it again"),
    "drain": ("queuebench.experiment.drain", "takes tasks off in the place of workers, and ships nothing"),
    "endpoint": ("queuebench.endpoint.endpoint", "answers POSTs after PUSH_SECONDS and keeps the tally"),
    "limit": ("queuebench.experiment.limit", "the highest rate that each queue holds, found and proven"),
    "monitor": ("queuebench.monitor.http", "opens and closes runs, keeps the figures, writes the results"),
    "publisher": ("queuebench.pipeline.publisher", "floods the queue under test with messages"),
    "report": ("queuebench.report.cli", "runs side by side, in the terminal and as one HTML file"),
    "sqs": ("queuebench.local_sqs", "a local SQS that behaves, limits and bills like AWS"),
    "sweep": ("queuebench.experiment.sweep", "every combination of some settings, each a run"),
    "subscriber": ("queuebench.pipeline.subscriber", "hands messages over to Celery"),
}
# What `pip install queuebench` alone leaves out, by verb; see pyproject.toml.
EXTRAS = {"report": "", "sqs": "sqs"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code; 2 for bad usage."""
    make_output_safe()
    given = sys.argv[1:] if argv is None else list(argv)
    if not given or given[0] not in VERBS:
        asked = given[:1] in (["-h"], ["--help"])
        print(_usage(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    verb = given[0]
    return run(f"queuebench {verb}", _load(verb), given[1:])


def run(name: str, act: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command; what is wrong for a known reason is said in one line, with exit code 2."""
    make_output_safe()
    try:
        return act(argv)
    except QueueBenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "queuebench"):
            raise
        extra = EXTRAS.get(name.removeprefix("queuebench "), "all")
        what = f"queuebench[{extra}]" if extra else "queuebench"
        print(f"{name}: {package} is not installed: pip install '{what}'", file=sys.stderr)
        return 2


def _usage() -> str:
    verbs = "".join(f"  {verb:14} {what}\n" for verb, (_, what) in VERBS.items())
    return (
        "usage: queuebench VERB [options]   (in a checkout: python -m queuebench VERB [options])\n\n"
        f"{verbs}\nThe worker is Celery's: celery -A queuebench.pipeline.app worker"
    )


def _load(verb: str) -> Callable[[list[str]], int]:
    def act(argv: list[str]) -> int:
        return int(importlib.import_module(VERBS[verb][0]).main(argv))

    return act


if __name__ == "__main__":
    sys.exit(main())
