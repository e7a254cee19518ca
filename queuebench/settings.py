"""The only reader of the environment: a frozen `Settings`, checked at start."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import load_dotenv

from queuebench import prices
from queuebench.errors import SettingsError
from queuebench.plumbing import redis_url
from queuebench.plumbing.printable import safe_url, to_text

SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD")


@dataclass(frozen=True)
class Settings:
    """Every setting, under its name in the environment but in lower case."""

    queue: str
    channel_name: str
    redis_pubsub_url: str
    redis_celery_url: str
    queue_name: str
    aws_region: str
    aws_endpoint_url_sqs: str
    aws_create_queues: bool
    sqs_queues: int
    sqs_threads: int
    sqs_fair: bool
    messages: tuple[int, ...]  # none: as many as come until `duration` is over
    rate: float
    profile: str
    arrivals: str
    duration: float
    warm_up: float
    message_bytes: int
    messages_file: str
    tenants: int
    publisher_delay: float
    celery_backlog_limit: int
    shipments_per_task: int
    worker_slots: int
    push_url: str
    push_seconds: float
    push_timeout: float
    push_tries: int
    endpoint_fail_share: float
    endpoint_slow_share: float
    endpoint_slow_seconds: float
    monitor_url: str
    monitor_hosts: tuple[str, ...]
    messages_per_day: int
    redis_usd_per_hour: float
    worker_usd_per_hour: float

    @property
    def local_sqs(self) -> bool:
        """Whether `AWS_ENDPOINT_URL_SQS` names a server that is not AWS."""
        host = urlsplit(self.aws_endpoint_url_sqs).hostname or ""
        return bool(host) and not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))

    @property
    def channel_is_celerys(self) -> bool:
        """Whether Celery, or what belongs to it, keeps something under CHANNEL_NAME in its own database."""
        return _RESERVED.match(self.channel_name) is not None

    @property
    def queue_label(self) -> str:
        """The queue under test as reports and logs must name it."""
        if self.queue != "SQS":
            return "Redis"
        return "local SQS" if self.local_sqs else "AWS SQS"

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The SQS queues to spread over: `name`, `name-2`, …, with `.fifo` kept last."""
        stem, fifo = self.queue_name.removesuffix(".fifo"), self.queue_name.endswith(".fifo") * ".fifo"
        return (self.queue_name, *(f"{stem}-{number}{fifo}" for number in range(2, self.sqs_queues + 1)))

    def options(self) -> dict[str, Any]:
        """Return what queues are made with, by name; each takes what it needs."""
        return {
            "redis_pubsub_url": self.redis_pubsub_url,
            "channel_name": self.channel_name,
            "queue_names": self.queue_names,
            "aws_region": self.aws_region,
            "aws_endpoint_url_sqs": self.aws_endpoint_url_sqs,
            "local_sqs": self.local_sqs,
            "aws_create_queues": self.aws_create_queues,
            "sqs_threads": self.sqs_threads,
            "sqs_fair": self.sqs_fair,
        }

    def public(self) -> dict[str, object]:
        """Return every setting for a report, without what is secret in a URL."""
        return {
            field.name.upper(): safe_url(value) if "_url" in field.name else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
            if not SECRET.search(field.name.upper())
        }


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the environment, and `.env` beneath it.

    Raises:
        SettingsError: a value cannot be used; the text names the setting and says what it takes.
    """
    if environ is None:
        # Into os.environ, because boto3 looks for its own names there.
        load_dotenv(stream=io.StringIO(_dotenv(Path(".env"))), override=False)
        environ = os.environ
    read = _Reader(environ)
    queue = read.text("QUEUE", "REDIS").upper()
    duration = read.number("DURATION", 0.0, 0.0, 31 * 86_400.0)
    profile = read.text("PROFILE", "")
    settings = Settings(
        queue=queue,
        channel_name=read.text("CHANNEL_NAME", "phone_numbers", needed=True),
        redis_pubsub_url=read.redis_url("REDIS_PUBSUB_URL", "redis://127.0.0.1:6379/0"),
        redis_celery_url=read.redis_url("REDIS_CELERY_URL", "redis://127.0.0.1:6379/1"),
        queue_name=read.queue_name("QUEUE_NAME", "phone_numbers"),
        aws_region=read.region("AWS_REGION", ""),
        aws_endpoint_url_sqs=read.url("AWS_ENDPOINT_URL_SQS", "", for_boto=True),
        aws_create_queues=read.flag("AWS_CREATE_QUEUES", False),
        sqs_queues=read.whole("SQS_QUEUES", 1, 1, 100),
        sqs_threads=read.whole("SQS_THREADS", 8, 1, 500),
        sqs_fair=read.flag("SQS_FAIR", False),
        messages=read.bursts("MESSAGES", "" if duration or profile else "10000"),
        rate=read.rate("RATE"),
        profile=profile,
        arrivals=read.one_of("ARRIVALS", "even", "poisson"),
        duration=duration,
        message_bytes=read.whole("MESSAGE_BYTES", 0, 0, 2**20),
        messages_file=read.text("MESSAGES_FILE", ""),
        warm_up=read.number("WARM_UP", 0.0, 0.0, 86_400.0),
        tenants=read.whole("TENANTS", 0, 0, 1000),
        publisher_delay=read.number("PUBLISHER_DELAY", 0.0, 0.0, 86_400.0),
        celery_backlog_limit=read.whole("CELERY_BACKLOG_LIMIT", 50_000, 1, 10_000_000),
        shipments_per_task=read.whole("SHIPMENTS_PER_TASK", 1, 1, 1000),
        worker_slots=read.whole("WORKER_SLOTS", 1000, 1, 100_000),
        push_url=read.url("PUSH_URL", ""),
        push_seconds=read.number("PUSH_SECONDS", 1.0, 0.0, 3600.0),
        push_timeout=read.number("PUSH_TIMEOUT", 60.0, 0.1, 3600.0),
        push_tries=read.whole("PUSH_TRIES", 8, 1, 1000),
        endpoint_fail_share=read.number("ENDPOINT_FAIL_SHARE", 0.0, 0.0, 1.0),
        endpoint_slow_share=read.number("ENDPOINT_SLOW_SHARE", 0.0, 0.0, 1.0),
        endpoint_slow_seconds=read.number("ENDPOINT_SLOW_SECONDS", 30.0, 0.0, 3600.0),
        monitor_url=read.url("MONITOR_URL", "").rstrip("/"),
        monitor_hosts=read.names("MONITOR_HOSTS"),
        messages_per_day=read.whole("MESSAGES_PER_DAY", 1_000_000, 1, 10**12),
        redis_usd_per_hour=read.number("REDIS_USD_PER_HOUR", prices.REDIS_USD_PER_HOUR, 0.0, 10_000.0),
        worker_usd_per_hour=read.number("WORKER_USD_PER_HOUR", prices.WORKER_USD_PER_HOUR, 0.0, 10_000.0),
    )
    if queue == "REDIS" and settings.channel_is_celerys:
        places = [
            redis_url.parse(url).place() for url in (settings.redis_pubsub_url, settings.redis_celery_url)
        ]
        if places[0] == places[1]:
            raise channel_refusal(settings.channel_name)
    asked = {"RATE": settings.rate, "PROFILE": profile, "PUBLISHER_DELAY": settings.publisher_delay}
    if len(names := [name for name, value in asked.items() if value]) > 1:
        raise SettingsError(f"{' and '.join(names)} each say when messages are sent: leave all but one out")
    if settings.message_bytes and settings.messages_file:
        raise SettingsError(
            "MESSAGE_BYTES and MESSAGES_FILE each say what messages are: leave one of them out"
        )
    if duration and settings.warm_up >= duration:
        raise SettingsError(
            f"WARM_UP={settings.warm_up:g} takes all of DURATION={duration:g}: nothing would be measured"
        )
    if settings.tenants == 1:
        raise SettingsError("TENANTS=1: 0 for none, or 2 to 1000 are needed, of which one is noisy")
    if settings.sqs_fair and queue == "SQS" and settings.queue_name.endswith(".fifo"):
        raise SettingsError("SQS_FAIR=1 is for standard queues: a FIFO queue has a group a tenant anyway")
    if max(map(len, settings.queue_names)) > 80:
        raise SettingsError("QUEUE_NAME is too long: SQS takes 80 characters, the queue's number included")
    return settings


def channel_refusal(name: str) -> SettingsError:
    """Return what a CHANNEL_NAME is refused with that is one of Celery's keys in the same database."""
    return SettingsError(
        f"CHANNEL_NAME={name!r}: Celery keeps something of its own under that name in the same database; "
        "choose another name, or another database in REDIS_PUBSUB_URL"
    )


def load_or_exit(who: str) -> Settings:
    """Read the settings, or end the process with one line that says what is wrong.

    For modules that need them when they are imported, as a Celery app does.
    """
    try:
        return load()
    except SettingsError as error:
        print(f"{who}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _dotenv(path: Path) -> str:
    """Return the text of a `.env`, '' where there is none or python-dotenv is told to leave it alone.

    Raises:
        SettingsError: it cannot be read.
    """
    if os.environ.get("PYTHON_DOTENV_DISABLED", "").casefold() in ("1", "true", "t", "yes", "y"):
        return ""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = to_text(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} is not UTF-8 (line {line}): save it in that encoding") from None
    if "\0" in text:
        raise SettingsError(f"{path} has a NUL character: save it as UTF-8, not as UTF-16 or binary")
    return text


# What Celery, kombu, our transport and the pipeline keep in Celery's database: the queue with its priorities
# and its quarantine, what is in flight, bindings, control and events, dead letters and markers.
_RESERVED = re.compile(
    r"celery$|celery[^A-Za-z0-9_-]|celery-task|celeryev|unacked|_kombu\.|_leased\.|.*\.celery\.pidbox|/[0-9]+\."
    r"|dead_letters$|open_run$|handed-over:|dead-lettered:"
)
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# Messages a second: one a quarter of an hour, and more than any queue here takes.
_LOWEST_RATE, _HIGHEST_RATE = 0.001, 1e6

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


class _Reader:
    """Typed access to one environment; every error names the setting and what it takes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str, needed: bool = False) -> str:
        value = self._environ.get(name, default).strip()
        if not value.isprintable():
            raise SettingsError(f"{name}={value!r}: it has a character that is not UTF-8 or not visible")
        if needed and not value:
            raise SettingsError(f"{name} is empty; leave it out for its default, {default!r}")
        return value

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        text = self.text(name, "")
        if not text:
            return default
        value = float(text) if re.fullmatch(_NUMBER, text) else float("nan")
        if not lowest <= value <= highest:
            raise SettingsError(f"{name}={text!r}: a number from {lowest:g} to {highest:g} is needed")
        return value + 0.0  # -0 is 0

    def rate(self, name: str) -> float:
        value = self.number(name, 0.0, 0.0, _HIGHEST_RATE)
        if 0.0 < value < _LOWEST_RATE:
            raise SettingsError(
                f"{name}={value:g}: a number from {_LOWEST_RATE:g} to {_HIGHEST_RATE:,.0f} is needed, "
                "or 0 for a flood"
            )
        return value

    def one_of(self, name: str, *known: str) -> str:
        text = self.text(name, "").lower() or known[0]
        if text not in known:
            raise SettingsError(f"{name}={text!r}: {' or '.join(known)} is needed")
        return text

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        text = self.text(name, "")
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", text) or not lowest <= int(text) <= highest:
            raise SettingsError(f"{name}={text!r}: a whole number from {lowest} to {highest} is needed")
        return int(text)

    def names(self, name: str) -> tuple[str, ...]:
        found = tuple(part.strip().lower() for part in self.text(name, "").split(",") if part.strip())
        if not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", host) for host in found):
            raise SettingsError(f"{name}={','.join(found)!r}: host names are needed, with commas between")
        return found

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name, "").lower()
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("0", "false", "no", "off"):
            return False
        if not text:
            return default
        raise SettingsError(f"{name}={text!r}: 1 or 0 is needed")

    def bursts(self, name: str, default: str) -> tuple[int, ...]:
        text = self.text(name, "") or default
        return bursts(text, name) if text else ()

    def url(self, name: str, default: str, for_boto: bool = False) -> str:
        text = self.text(name, default)
        if not text:
            return ""
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            (parts.hostname or "").encode("idna")
        except ValueError:
            usable = False
        if not usable or " " in text:
            raise SettingsError(
                f"{name}={safe_url(text)!r}: a URL that begins with http:// or https:// is needed"
            )
        host = parts.hostname or ""
        if for_boto and ":" not in host and not all(map(_LABEL.fullmatch, host.split("."))):
            raise SettingsError(
                f"{name}={safe_url(text)!r}: boto3 takes only letters, digits and hyphens in a host's name"
            )
        return text

    def region(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if text and not _LABEL.fullmatch(text):
            raise SettingsError(f"{name}={text!r}: a region such as us-east-1 is needed")
        return text

    def redis_url(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not text:
            raise SettingsError(f"{name} is empty; leave it out for its default, {default}")
        redis_url.parse(text, name)
        return text

    def queue_name(self, name: str, default: str) -> str:
        text = self.text(name, "") or default
        # The syntax is that of the CreateQueue action in the SQS API reference.
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,75}(\.fifo)?|[A-Za-z0-9_-]{76,80}", text):
            raise SettingsError(
                f"{name}={text!r}: up to 80 letters, digits, '-' and '_' are needed, "
                "and '.fifo' at the end for a FIFO queue"
            )
        return text


def bursts(text: str, name: str = "MESSAGES") -> tuple[int, ...]:
    """Parse `N` or `N,N,…`, the sizes of one or more runs.

    Raises:
        SettingsError: something else was given.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,10}", part) and int(part) > 0 for part in parts):
        raise SettingsError(f"{name}={text!r}: a positive whole number is needed, or several: 100,1000,10000")
    return tuple(int(part) for part in parts)
