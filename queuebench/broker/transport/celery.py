"""What Celery must be told so that its workers use this transport as it is meant."""

from __future__ import annotations

import contextlib
from typing import Any

from celery.worker.request import Request as CeleryRequest

from queuebench.broker.transport.link import url


def celery_settings(redis_url: str, slots: int, **transport_options: Any) -> dict[str, Any]:
    """Return the Celery settings that go with this transport, for a worker of `slots` tasks at once."""
    return {
        "broker_url": url(redis_url),
        "broker_transport_options": transport_options,
        # A task is in flight until it has ended; one whose pool process was killed goes back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # One that a cold shutdown cut off goes back, too.
        "task_annotations": {"*": {"Request": f"{__name__}:Request"}},
        # Credit that a finished task frees is used at once, so there is nothing to gain from hoarding.
        "worker_concurrency": slots,
        "worker_prefetch_multiplier": 1,
        # A broker that is away is waited for, however long; and tasks that ran meanwhile are acknowledged
        # afterwards, so that there is nothing to slow down for.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "worker_enable_prefetch_count_reduction": False,
        # Under gevent each greenlet would build a result backend of its own: a fifth of a task's CPU.
        "result_backend": None,
        "task_ignore_result": True,
        "result_backend_thread_safe": True,
    }


class Request(CeleryRequest):  # type: ignore[misc]
    """A task request that a cold shutdown does not lose.

    One that it ended is not acknowledged, which Celery's gevent pool would do. One that it cannot end, in a
    thread, is waited for.
    """

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        with contextlib.suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)

    def acknowledge(self) -> None:
        if not self._already_cancelled:
            super().acknowledge()
