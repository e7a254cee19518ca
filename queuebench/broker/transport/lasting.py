"""A Celery consumer whose connections come back, each by itself, with one line and without a fuss."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from queue import Empty
from time import sleep
from typing import Any, Protocol

from celery.worker import pidbox
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.control import Control as CeleryControl
from celery.worker.state import maybe_shutdown
from kombu.connection import Connection

from queuebench.plumbing.printable import safe_text

PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0

log = logging.getLogger(__name__)


class LastingConsumer(CeleryConsumer):  # type: ignore[misc]
    """A consumer that says once that the broker is away, or refuses for now, and once that it is back."""

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]
        default_steps = tuple(
            f"{__name__}:Control" if step.endswith(":Control") else step
            for step in CeleryConsumer.Blueprint.default_steps
        )

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and wait until the broker takes what a consumer begins with."""
        if not self.app.conf.broker_connection_retry or self.app.conf.broker_connection_max_retries == 0:
            return super().ensure_connected(conn)
        if self.restart_count > 0:
            forget_idle(self.app.pool)
        said = False

        def say(error: object, interval: float = 0.0) -> None:
            nonlocal said
            if not said:
                log.warning("the broker is away (%s); trying again until it is back", safe_text(str(error)))
            said = True

        conn = conn.ensure_connection(
            say,
            self.app.conf.broker_connection_max_retries,
            PAUSE_SECONDS,
            PAUSE_SECONDS,
            LONGEST_PAUSE_SECONDS,
            callback=maybe_shutdown,
        )
        while (refusal := _refusal(conn)) is not None:
            say(refusal)
            maybe_shutdown()
            sleep(PAUSE_SECONDS)
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        if said:
            log.warning("the broker is back")
        return conn

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say so, without Celery's advice to cancel what runs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)


def forget_idle(pool: Any) -> None:
    """Close what a pool keeps: one connection was lost, and others may be dead that nobody has used."""
    with contextlib.suppress(Empty):
        kept = []
        try:
            while True:
                kept.append(pool._resource.get_nowait())
        finally:
            for idle in reversed(kept):
                if isinstance(idle, Connection):
                    idle.collect()
                pool._resource.put_nowait(idle)


def _refusal(conn: Any) -> Exception | None:
    """Return what a broker says that takes no writes for now."""
    channel = conn.default_channel
    try:
        return channel.refusal() if hasattr(channel, "refusal") else None
    except conn.connection_errors as error:
        conn.collect()
        return error if isinstance(error, Exception) else None


class _Consumer(Protocol):
    app: Any
    connection: Any
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]


class GreenPidbox(pidbox.gPidbox):  # type: ignore[misc]
    """The mailbox of a gevent worker, which connects again by itself; Celery's is deaf from then on."""

    def loop(self, c: _Consumer) -> None:
        shutdown = self._node_shutdown = threading.Event()
        stopped = self._node_stopped = threading.Event()
        try:
            while not shutdown.is_set() and c.connection:
                try:
                    self._listen(c, shutdown)
                except (*c.connection_errors, *c.channel_errors) as error:
                    log.warning("the mailbox of this worker connects again: %s", safe_text(str(error)))
                    shutdown.wait(PAUSE_SECONDS)
        finally:
            stopped.set()

    def _listen(self, c: _Consumer, shutdown: threading.Event) -> None:
        with c.app.connection_for_read() as connection:
            done = self._resets
            self._do_reset(c, connection)
            while not shutdown.is_set() and c.connection:
                if done < self._resets:
                    done = self._resets
                    self._do_reset(c, connection)
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=1.0)


class Control(CeleryControl):  # type: ignore[misc]
    """Remote control, with that mailbox where the pool is green."""

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        if self.is_green:
            self.box = GreenPidbox(c)
            self.start, self.stop, self.shutdown = self.box.start, self.box.stop, self.box.shutdown
