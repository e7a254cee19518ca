"""What Celery must be told so that its workers use this transport as it is meant."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import bootsteps, signals
from celery.exceptions import InvalidTaskError
from celery.worker.consumer import Connection
from celery.worker.request import Request as CeleryRequest
from redis.exceptions import RedisError

from queuebench.broker.transport.channel import Channel
from queuebench.broker.transport.lasting import LastingConsumer
from queuebench.broker.transport.link import url
from queuebench.broker.transport.options import refuse_worker
from queuebench.errors import SettingsError
from queuebench.plumbing import redis_url as urls
from queuebench.plumbing.printable import safe_text

log = logging.getLogger(__name__)


# What kombu reads besides the options of a channel.
_OF_KOMBU = frozenset(
    {
        "polling_interval", "reauth_check_interval", "connect_retries_timeout", "errback", "callback",
        "max_retries", "interval_start", "interval_step", "interval_max",
        "master_name", "min_other_sentinels", "sentinel_kwargs",
        "sentinel_fanout_compat",
    }
)  # fmt: skip


def celery_settings(redis_url: str, slots: int, **transport_options: Any) -> dict[str, Any]:
    """Return the Celery settings that go with this transport, for a worker of `slots` tasks at once.

    Raises:
        SettingsError: an option that nobody reads, which would be left out in silence; or a wrong URL.
    """
    known = _OF_KOMBU.union(Channel.from_transport_options)
    if unknown := sorted(transport_options.keys() - known):
        raise SettingsError(
            f"the transport takes no option {unknown[0]!r}; it takes {', '.join(sorted(known))}"
        )
    return {
        "broker_url": url(redis_url),
        # The URL says so too; those who look into the broker themselves, as Flower does, read it here.
        "broker_use_ssl": urls.parse(redis_url).tls_options() or False,
        "broker_transport_options": transport_options,
        # A task is in flight until it has ended; one whose pool process was killed goes back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # One that a cold shutdown cut off goes back, too.
        "worker_consumer": f"{__name__}:Consumer",
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


signals.celeryd_init.connect(refuse_worker, weak=False)


class BrokerShown(bootsteps.StartStopStep):  # type: ignore[misc]
    """What `inspect stats` tells of the broker, without what is secret in the URL of a socket."""

    requires = (Connection,)

    def info(self, consumer: Any) -> dict[str, Any]:
        shown = dict(Connection.info(self, consumer))
        if isinstance(broker := shown.get("broker"), dict):
            shown["broker"] = broker | {"hostname": safe_text(str(broker.get("hostname")))}
        return shown


class Consumer(LastingConsumer):
    """A consumer that keeps as a dead letter what no task can be made of; Celery's own throws it away."""

    class Blueprint(LastingConsumer.Blueprint):
        default_steps = (*LastingConsumer.Blueprint.default_steps, f"{__name__}:BrokerShown")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _have_tasks_end(self.pool)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        if self._buried(message, "neither a task nor anything else of Celery's"):
            super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Any) -> None:
        if self._buried(message, f"no task of that name is registered: {exc}"):
            super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Any) -> None:
        if self._buried(message, f"not a valid task: {exc}"):
            super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Any) -> None:
        if self._buried(message, f"its body cannot be decoded: {type(exc).__name__}: {exc}"):
            log.error("a message is a dead letter: its body cannot be decoded: %s", type(exc).__name__)
            message.ack()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        receive = super().create_task_handler(*args, **kwargs)

        def receive_or_bury(message: Any) -> None:
            # Celery ends the worker over some, and so would every worker that gets it next.
            try:
                receive(message)
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                if message.acknowledged:
                    raise
                self.on_decode_error(message, error)

        return receive_or_bury

    @staticmethod
    def _buried(message: Any, reason: str) -> bool:
        """Keep a message before Celery, which follows, acknowledges it; what cannot be kept now goes back."""
        try:
            if (bury := getattr(message.channel, "bury", None)) is not None:
                bury(message, reason)
        except (RedisError, OSError):
            message.requeue()
            return False
        return True


def _have_tasks_end(pool: Any) -> None:
    """Have what Celery raises before a task runs fail the task.

    Its pools of threads and greenlets would drop it, and the message be held for as long as the worker lives.
    """
    if pool is None or getattr(pool, "uses_semaphore", False) or "apply_async" in vars(pool):
        return  # processes tell it by themselves
    apply_async = pool.apply_async
    pool.apply_async = lambda target, *args, **options: apply_async(partial(_ended, target), *args, **options)


def _ended(target: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return target(*args, **kwargs)
    except Exception:
        return 1, ExceptionInfo(), 0.0


class Request(CeleryRequest):  # type: ignore[misc]
    """A task request that a cold shutdown does not lose, and that tells when it begins.

    One that it ended is not acknowledged, which Celery's gevent pool would do. One that it cannot end, in a
    thread, is waited for.
    """

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        if type(self.name) is not str:  # Celery would neither begin it nor end it
            raise InvalidTaskError(f"shadow is no text: {self.name!r}")
        if (hold := getattr(message.channel, "hold", None)) is not None:
            hold(message.delivery_tag, at_once=self._eta is not None)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        if (begin := getattr(self.message.channel, "begin", None)) is not None:
            begin(self.message.delivery_tag)
        super().on_accepted(pid, time_accepted)

    def reject(self, requeue: bool = False) -> None:
        """Reject; what has not begun, as with an ETA beyond all times, is a dead letter first."""
        bury = getattr(self._message.channel, "bury", None)
        if bury is not None and not (requeue or self.acknowledged or self.time_start):
            try:
                bury(self._message, "Celery rejected it before it began")
            except (RedisError, OSError):
                requeue = True
        super().reject(requeue=requeue)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        with contextlib.suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)

    def acknowledge(self) -> None:
        if not self._already_cancelled:
            super().acknowledge()
