"""Says what becomes of many command lines of a worker, each in a process of its own that starts no worker.

In comes JSON, [environment, words before `worker`, words after] of each, and out [exit code, output] of each.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile

import celery
from celery import signals
from celery.bin.celery import main

import task  # noqa: F401

STARTS = "it would start"


def stop(**_: object) -> None:
    raise SystemExit(STARTS)


def try_one(environ: dict[str, str], before: list[str], after: list[str]) -> None:
    os.environ.update(environ)
    sys.argv = ["celery", "-A", "task", *before, "worker", *after]
    celery.maybe_patch_concurrency()
    try:
        main()
    except SystemExit as end:
        # As Python itself does, but without taking everything down first, which takes the longest.
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    signals.celeryd_init.connect(stop, weak=False)
    gc.freeze()
    for case in json.load(sys.stdin):
        with tempfile.TemporaryFile() as output:
            if not (child := os.fork()):
                for stream in (1, 2):
                    os.dup2(output.fileno(), stream)
                try_one(*case)
                os._exit(99)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            print(json.dumps([code, output.read().decode()]), flush=True)
