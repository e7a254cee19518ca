"""What Celery must be told so that its workers use this transport as it is meant."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from celery import bootsteps, signals
from celery.worker.consumer import Connection
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from redis.exceptions import RedisError

from queuebench.broker.transport.link import SCHEME, url
from queuebench.plumbing import redis_url as urls
from queuebench.plumbing.printable import safe_text

log = logging.getLogger(__name__)

# What a worker's command line and the environment may not change.
GUARDED = (
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_annotations",
    "worker_consumer",
    "broker_transport_options",
)
_URLS = {
    "broker_url": ("BROKER_URL", "CELERY_BROKER_URL", "--broker"),
    "broker_read_url": ("CELERY_BROKER_READ_URL",),
    "broker_write_url": ("CELERY_BROKER_WRITE_URL",),
}


def celery_settings(redis_url: str, slots: int, **transport_options: Any) -> dict[str, Any]:
    """Return the Celery settings that go with this transport, for a worker of `slots` tasks at once."""
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


def refusal(conf: Any, argv: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> str | None:
    """Return which variable or option would take a worker its guarantees, and what to do; None: none does.

    Args:
        conf: the configuration of an app that has `celery_settings`; other apps are not looked at.
        argv: the worker's command line.
        environ: the environment that Celery reads.
    """
    ours = conf.get("broker_url")
    if not str(ours).startswith(SCHEME):
        return None
    for name, sources in _URLS.items():
        if str(getattr(conf, name)) not in (str(ours), str(conf.get(name))):
            given = [source for source in sources if source in environ]
            if _given(argv, "-b", "--broker"):
                given = ["--broker"]
            return f"{(given or sources)[0]} would go before this app's broker: leave it out"
    for name in GUARDED:
        if name in _commanded(argv):
            return f"{name} on the command line would take away that a killed worker's tasks come back"
    for name in ("task_acks_late", "task_reject_on_worker_lost"):
        if not conf.get(name):
            return f"{name} is off, and without it a killed worker's tasks do not come back"
    return None


def refused_option(
    pools: Sequence[str], argv: Sequence[str], conf: Any, environ: Mapping[str, str]
) -> str | None:
    """Return what an app refuses whose tasks need one of `pools`, no results and no time limits."""
    pool = _given(argv, "-P", "--pool")
    if pool is not None and pool not in pools:
        return f"-P {pool}: tasks of one process share its slots and its stop; use -P {' or -P '.join(pools)}"
    if str(conf.result_backend or "") != str(conf.get("result_backend") or ""):
        name = next(
            (n for n in ("CELERY_RESULT_BACKEND", "RESULT_BACKEND") if n in environ), "--result-backend"
        )
        if _given(argv, "--result-backend", "--result-backend"):
            name = "--result-backend"
        return f"{name}: these tasks have no results, and a backend that is away fails them: leave it out"
    for option, why in (
        ("--autoscale", "a worker has WORKER_SLOTS slots from start to end"),
        ("--time-limit", "it would end a shipment unfinished; PUSH_TIMEOUT bounds a POST"),
        ("--soft-time-limit", "it would end a shipment unfinished; PUSH_TIMEOUT bounds a POST"),
        ("--purge", "it would throw away what waits; `celery -A task purge` does that on purpose"),
    ):
        if any(word == option or word.startswith(f"{option}=") for word in argv):
            return f"{option}: {why}: leave it out"
    return None


def refuse_options(*pools: str) -> None:
    """End a worker of this process with one line where an option or a variable takes a guarantee away."""

    def check(conf: Any = None, **_: Any) -> None:
        if why := refused_option(pools, sys.argv[1:], conf, os.environ):
            raise SystemExit(f"worker: {why}")

    signals.celeryd_init.connect(check, weak=False)


def _commanded(argv: Sequence[str]) -> set[str]:
    """Return the settings that Celery reads from `-- namespace.key=value`."""
    names = (word.partition("=")[0].replace(".", "_") for word in argv if "=" in word and word[:1] != "-")
    return {name for word in names for name in (word, f"worker_{word}")}


def _given(argv: Sequence[str], short: str, long: str) -> str | None:
    """Return the value of an option on a command line of Celery's, the last where there are several."""
    value = None
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word in (short, long):
            value = following
        elif word.startswith(f"{long}="):
            value = word.partition("=")[2]
        elif word.startswith(short) and not word.startswith("--") and len(word) > 2:
            value = word[2:]
    return value


def _refuse(conf: Any = None, **_: Any) -> None:
    if why := refusal(conf, sys.argv[1:]):
        raise SystemExit(f"worker: {why}")


signals.celeryd_init.connect(_refuse, weak=False)


class BrokerShown(bootsteps.StartStopStep):  # type: ignore[misc]
    """What `inspect stats` tells of the broker, without what is secret in the URL of a socket."""

    requires = (Connection,)

    def info(self, consumer: Any) -> dict[str, Any]:
        shown = dict(Connection.info(self, consumer))
        if isinstance(broker := shown.get("broker"), dict):
            shown["broker"] = broker | {"hostname": safe_text(str(broker.get("hostname")))}
        return shown


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """A consumer that keeps as a dead letter what no task can be made of; Celery's own throws it away."""

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]
        default_steps = (*CeleryConsumer.Blueprint.default_steps, f"{__name__}:BrokerShown")

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


class Request(CeleryRequest):  # type: ignore[misc]
    """A task request that a cold shutdown does not lose, and that tells when it begins.

    One that it ended is not acknowledged, which Celery's gevent pool would do. One that it cannot end, in a
    thread, is waited for.
    """

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        if (hold := getattr(message.channel, "hold", None)) is not None:
            hold(message.delivery_tag, at_once=self._eta is not None)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        if (begin := getattr(self.message.channel, "begin", None)) is not None:
            begin(self.message.delivery_tag)
        super().on_accepted(pid, time_accepted)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        with contextlib.suppress(NotImplementedError):
            super().cancel(pool, signal, emit_retry)

    def acknowledge(self) -> None:
        if not self._already_cancelled:
            super().acknowledge()
