"""Make the POSTs: `celery -A task worker`, as many as you like.

A worker takes a task, waits for one of its WORKER_SLOTS, and POSTs the message to PUSH_URL with its
id as the Idempotency-Key. A POST that fails is made again, later and later; after the last try the
message becomes a dead letter. The task is acknowledged only then: whatever kills the worker, the
task comes back to another.

Any Celery code may call it too: `push_data.delay("+5511999990000", "hello")`.
"""

from queuebench.pipeline.app import app, push_data, push_several

__all__ = ["app", "push_data", "push_several"]
