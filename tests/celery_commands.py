"""Runs many commands of Celery's in one process: JSON lists of words in, [exit code, output] of each out."""

from __future__ import annotations

import json
import sys

from celery.bin.celery import celery
from click.testing import CliRunner

if __name__ == "__main__":
    runner = CliRunner()
    typed = "print(app.control.ping(timeout=20, limit=1))\n"  # into the shell
    for words in json.load(sys.stdin):
        done = runner.invoke(celery, ["-A", "task", *words], input=typed)
        print(json.dumps([done.exit_code, done.output]), flush=True)
