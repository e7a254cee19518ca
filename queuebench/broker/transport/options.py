"""What a worker's command line and the environment may not change, refused in one line that names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from celery import signals
from celery.concurrency import ALIASES
from click.core import ParameterSource

from queuebench.broker.transport.link import SCHEME

# What `-- namespace.key=value` behind a worker's options may not set.
GUARDED = (
    "broker_url",
    "broker_read_url",
    "broker_write_url",
    "broker_transport",
    "broker_transport_options",
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_annotations",
    "worker_consumer",
)
_URLS = {
    "broker_read_url": "CELERY_BROKER_READ_URL",
    "broker_write_url": "CELERY_BROKER_WRITE_URL",
    "broker_url": "CELERY_BROKER_URL",
}
_LIMIT = "it would end a shipment unfinished; PUSH_TIMEOUT bounds a POST"
_REFUSED = {
    "autoscale": "a worker has WORKER_SLOTS slots from start to end",
    "time_limit": _LIMIT,
    "soft_time_limit": _LIMIT,
    "purge": "it would throw away what waits; `celery -A task purge` does that on purpose",
}
_GREEN = ALIASES["gevent"]


class Given:
    """How a worker's options were given, as Click has them; nothing, where a worker is made in code."""

    def __init__(self) -> None:
        context = click.get_current_context(silent=True)
        self._worker = context if context is not None and context.info_name == "worker" else None
        self._main = self._worker.parent if self._worker is not None else None
        self.settings: Sequence[str] = ()
        if self._worker is not None and self._worker.args:
            parse = self._worker.obj.app.loader.cmdline_config_parser
            self.settings = list(parse(self._worker.args, "worker"))

    def by(self, name: str, fallback: str = "", of_main: bool = False) -> str:
        """Return the option or the variable that an option was given by."""
        context = self._main if of_main else self._worker
        if context is None:
            return fallback
        source = context.get_parameter_source(name)
        parameter = next(one for one in context.command.params if one.name == name)
        if source is ParameterSource.COMMANDLINE:
            written = [one for one in parameter.opts for word in sys.argv if word.partition("=")[0] == one]
            return (written or parameter.opts)[0]
        if source is not ParameterSource.ENVIRONMENT:
            return fallback
        variable = str(parameter.envvar)
        return variable if os.environ.get(variable) else f"{context.auto_envvar_prefix}_{name.upper()}"

    def text(self, name: str) -> str:
        """Return what was written for an option of the worker, '' where that cannot be told."""
        if self._worker is None or self._main is None:
            return ""
        source = self._worker.get_parameter_source(name)
        if source is ParameterSource.ENVIRONMENT:
            return os.environ.get(self.by(name), "")
        if source is not ParameterSource.COMMANDLINE:
            return ""
        try:
            words = self._main.command.make_parser(self._main).parse_args(sys.argv[1:])[1]
            return str(self._worker.command.make_parser(self._worker).parse_args(words[1:])[0].get(name, ""))
        except click.ClickException:
            return ""


def refusal(conf: Any, given: Given) -> str | None:
    """Return what would take a worker this transport's guarantees, and what to do; None: nothing does.

    An app that has not `celery_settings` is not looked at.
    """
    is_ours = str(conf.get("worker_consumer")).startswith(f"{__package__}.")
    if not is_ours and not str(conf.get("broker_url")).startswith(SCHEME):
        return None
    for name in given.settings:
        if name in GUARDED:
            return f"{name} on the command line would take away that a killed worker's tasks come back"
    for name, variable in _URLS.items():
        if str(getattr(conf, name)) not in (str(conf.get("broker_url")), str(conf.get(name))):
            source = variable if os.environ.get(variable) else "CELERY_BROKER_URL"
            if source == "CELERY_BROKER_URL":
                # Celery puts there what --broker says, too.
                source = given.by("broker", source, of_main=True)
            return f"{source} would go before this app's broker: leave it out"
    for name in ("task_acks_late", "task_reject_on_worker_lost"):
        if not conf.get(name):
            return f"{name} is off, and without it a killed worker's tasks do not come back"
    return None


def refused_option(pools: Sequence[str], conf: Any, options: Mapping[str, Any], given: Given) -> str | None:
    """Return what an app refuses whose tasks need one of `pools`, no results and no time limits."""
    for name in given.settings:
        return f"{name} on the command line: this app's settings are in .env; leave it out"
    pool = _path_of(options.get("pool") or options.get("pool_cls") or conf.worker_pool)
    if (typed := given.text("pool")) == "prefork":  # Celery takes that for the app's own, without a word
        pool = ALIASES[typed]
    if pool not in [ALIASES[name] for name in pools]:
        name = typed or next((name for name, path in ALIASES.items() if path == pool), pool)
        by, use = given.by("pool", "worker_pool"), " or ".join(f"-P {name}" for name in pools)
        return f"{by} {name}: tasks of one process share its slots and its stop; use {use}"
    if pool == _GREEN and not _is_patched():
        by = given.by("pool", "worker_pool")
        return f"{by} gevent: Celery prepares a process for that only where it reads `-P gevent`: write that"
    if pool == _GREEN and options.get("beat"):
        return f"{given.by('beat', 'beat')}: Celery has no beat beside greenlets; run `celery beat` by itself"
    if str(conf.result_backend or "") != str(conf.get("result_backend") or ""):
        name = given.by("result_backend", "CELERY_RESULT_BACKEND", of_main=True)
        return f"{name}: these tasks have no results, and a backend that is away fails them: leave it out"
    for option, why in _REFUSED.items():
        if options.get(option):
            return f"{given.by(option, option)}: {why}: leave it out"
    return None


def refuse_worker(conf: Any = None, **_: Any) -> None:
    """End a worker with one line where something takes away a guarantee of this transport."""
    if why := refusal(conf, Given()):
        raise SystemExit(f"worker: {why}")


def refuse_options(*pools: str) -> None:
    """End workers of this process with one line for what `refused_option` names."""

    def check(conf: Any = None, options: Mapping[str, Any] | None = None, **_: Any) -> None:
        if why := refused_option(pools, conf, options or {}, Given()):
            raise SystemExit(f"worker: {why}")

    signals.celeryd_init.connect(check, weak=False)


def _path_of(pool: Any) -> str:
    """Return a pool's `module:Class`, given its class, its name or that."""
    if isinstance(pool, type):
        return f"{pool.__module__}:{pool.__qualname__}"
    return str(ALIASES.get(pool, pool))


def _is_patched() -> bool:
    from gevent import monkey

    return bool(monkey.is_module_patched("socket") and monkey.is_module_patched("threading"))
