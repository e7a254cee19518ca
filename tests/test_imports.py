"""A process loads what its role needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from queuebench.bench.stack import clean_environment
from tests import ROOT


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("queuebench.pipeline.publisher", "rich starlette uvicorn boto3 botocore celery kombu redis"),
        ("queuebench.settings", "rich starlette boto3 celery kombu redis requests"),
        ("queuebench.plumbing.redis_client", "queuebench.settings celery kombu boto3 requests"),
        ("queuebench.queues.redis_list", "queuebench.settings celery kombu boto3"),
        ("queuebench.queues.sqs", "queuebench.settings celery kombu redis"),
    ],
)
def test_what_a_module_needs_not_is_not_loaded(module: str, foreign: str) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(foreign.split()) & set(done.stdout.split()) == set()
