"""One reading of a Redis URL for every client: redis-py's and kombu's own differ."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from queuebench.errors import SettingsError
from queuebench.plumbing.printable import safe_url

SCHEMES = ("redis", "rediss", "unix", "redis+socket")
DEFAULT_PORT = 6379
_CERTIFICATE = {"none": "none", "optional": "optional", "required": "required"}
_CERTIFICATE |= {f"cert_{name}": name for name in _CERTIFICATE}
_TRUTH = {"1": "true", "true": "true", "yes": "true", "0": "false", "false": "false", "no": "false"}
_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
OPTIONS = ("db", "username", "password", "ssl_cert_reqs", "ssl_check_hostname", *_TLS_FILES)


@dataclass(frozen=True)
class RedisUrl:
    """Where a Redis is and how it is spoken to; `socket` is the path of a Unix socket, or ''."""

    host: str = ""
    port: int = DEFAULT_PORT
    socket: str = ""
    db: int = 0
    user: str = ""
    password: str = ""
    tls: Mapping[str, str] | None = field(default=None)  # redis-py's options, None: without TLS

    def for_redis_py(self) -> str:
        """Return the URL that `redis.Redis.from_url` takes."""
        if self.socket:
            return f"unix://{self._user_info()}{quote(self.socket)}?db={self.db}"
        return f"{'redis' if self.tls is None else 'rediss'}://{self._rest()}"

    def for_kombu(self, scheme: str) -> str:
        """Return the URL that a kombu `Connection` takes for its Redis transport called `scheme`."""
        if self.socket:
            return f"{scheme}+socket://{self._user_info()}{quote(self.socket)}?virtual_host={self.db}"
        return f"{scheme}://{self._rest()}"

    def tls_options(self) -> dict[str, str | bool]:
        """Return the TLS options as redis-py's constructors take them, none without TLS."""
        return {
            option: value == "true" if option == "ssl_check_hostname" else value
            for option, value in (self.tls or {}).items()
        }

    def place(self) -> tuple[str, int, int]:
        """Return what is the same for two URLs of one database, as far as their text can tell."""
        if self.socket:
            return (self.socket, 0, self.db)
        host = self.host.lower()
        if host in ("localhost", "::1", "0.0.0.0") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host):
            host = "127.0.0.1"
        return (host, self.port, self.db)

    def shown(self) -> str:
        """Return the URL without user and password."""
        return safe_url(RedisUrl(self.host, self.port, self.socket, self.db).for_redis_py().partition("?")[0])

    def _user_info(self) -> str:
        if not self.user and not self.password:
            return ""
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"

    def _rest(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        query = f"?{urlencode(self.tls)}" if self.tls else ""
        return f"{self._user_info()}{host}:{self.port}/{self.db}{query}"


def parse(url: str, name: str = "the Redis URL") -> RedisUrl:
    """Read a Redis URL.

    Takes redis:// and rediss:// (the certificate is verified unless `ssl_cert_reqs` says otherwise), and for
    a Unix socket redis-py's unix:///path?db=N and Celery's redis+socket:///path?virtual_host=N.

    Args:
        url: what somebody wrote.
        name: the setting, for the error.

    Raises:
        SettingsError: it would not mean the same to every client; the text, which shows no secret, says why.
    """
    try:
        return _parse(url)
    except _Refused as why:
        raise SettingsError(f"{name}={safe_url(url)!r}: {why}") from None


class _Refused(Exception):
    pass


def _parse(url: str) -> RedisUrl:
    if not url.isprintable() or " " in url:
        raise _Refused("a URL has no spaces or control characters; write them as %20 and the like")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, unquote(parts.hostname or ""), parts.port
    except ValueError:
        raise _Refused("no host and port can be read; in a password escape # / ? @ : [ ] with %") from None
    if scheme not in SCHEMES or "://" not in url:
        raise _Refused("a URL that starts with redis:// or rediss:// is needed; for a socket, unix://")
    if parts.fragment or url.endswith("#"):
        raise _Refused("a # has no meaning in it; in a password write it as %23")
    options = _options(parts.query)
    is_socket = scheme in ("unix", "redis+socket")
    if is_socket and "virtual_host" in options:
        options.setdefault("db", options.pop("virtual_host"))
    for option in options:
        if option not in OPTIONS:
            raise _Refused(f"the option {option!r} is not known; known are {', '.join(OPTIONS)}")
    user = _one("user", unquote(parts.username or ""), options.pop("username", ""))
    password = _one("password", unquote(parts.password or ""), options.pop("password", ""))
    if is_socket:
        if host or port or len(parts.path) < 2:
            raise _Refused("a socket's URL is unix:///its/path")
        db, tls = _database(options.pop("db", "0")), None
        if options:
            raise _Refused(f"{next(iter(options))} has no meaning for a socket")
        return RedisUrl(socket=unquote(parts.path), db=db, user=user, password=password)
    if not host or port == 0:
        raise _Refused("a host is needed" if not host else "port 0 is none")
    if not _is_name(host):
        raise _Refused("what stands for the host is no name")
    path = parts.path.strip("/")
    db = _database(_one("database", path, options.pop("db", "")) or "0")
    if scheme == "redis" and options:
        raise _Refused(f"{next(iter(options))} needs rediss://")
    tls = _tls(options) if scheme == "rediss" else None
    return RedisUrl(host, port or DEFAULT_PORT, "", db, user, password, tls)


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise _Refused("an option is given twice")
    if "" in options.values():
        raise _Refused("an option has no value")
    return options


def _one(what: str, first: str, second: str) -> str:
    if first and second and first != second:
        raise _Refused(f"it names two {what}s")
    return first or second


def _is_name(host: str) -> bool:
    try:
        return host.isprintable() and not re.search(r"[\s/?#@,]", host) and bool(host.encode("idna"))
    except UnicodeError:
        return False


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise _Refused("the database behind the / is a number, 0 if left out")
    return int(text)


def _tls(options: Mapping[str, str]) -> dict[str, str]:
    tls = {"ssl_cert_reqs": "required", **options}
    for option, known in (("ssl_cert_reqs", _CERTIFICATE), ("ssl_check_hostname", _TRUTH)):
        if option in tls:
            if tls[option].lower() not in known:
                raise _Refused(f"{option} is one of {', '.join(dict.fromkeys(known.values()))}")
            tls[option] = known[tls[option].lower()]
    for option in _TLS_FILES:
        if option in tls and not os.access(tls[option], os.R_OK):
            raise _Refused(f"{option} names a file that is not there or cannot be read")
    return tls
