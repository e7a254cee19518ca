"""What is shown, logged, recorded or sent: no secrets of a URL, no control characters, any encoding."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

HIDDEN = "***"

# Bounded, so that what a text costs grows as it does.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,30}://\S+")
# As in "Max retries exceeded with url: /push?token=…".
_PATH_WITH_QUERY = re.compile(r"(?<![\w.:/@*\-])/[^\s?'\"]{0,500}\?\S+")
_CLOSING = "'\"`)]}>,.;:!"
# As in "Max retries exceeded with url: /services/T0/B0/…".
_PATH_OF_REQUEST = re.compile(r"(?<=with url: )/\S*")
_AUTHORITY = re.compile(r"(?:.*@)?(?:\[[^\]]*\]|[^:@\[\]]+)(:[0-9]{0,5})?", re.DOTALL)
_PATH_PARAMETER = re.compile(r"(;[^=/;]*=)[^/;]+")
# The first part of a path says which service is meant. What comes after it may be a key, as in the address
# of a webhook, and so may a first part that is no word.
_WORD = re.compile(r"[A-Za-z._-]{1,20}(;.*)?")
_DATABASE = re.compile(r"[0-9]{1,6}")
_WITH_DATABASE = frozenset({"redis", "rediss", "leased"})
_WITH_FILE = frozenset({"unix", "socket", "redis+socket", "leased+socket", "file"})


def safe_url(url: str) -> str:
    """Return a URL, however malformed, without its user, its password and the values of its query.

    Of a fragment nothing is left, and of a path the first part, if that is a word; all of one that names a
    file. What comes back stays as it is when it is given again.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    rest = _without_user(rest, may_have_at_in_path=scheme.lower() in ("http", "https"))
    rest, _, fragment = rest.partition("#")
    path, question, query = rest.partition("?")
    shown = scheme + mark + _without_rest(_PATH_PARAMETER.sub(rf"\1{HIDDEN}", path), scheme.lower())
    if question:
        shown += "?" + re.sub(r"[^&;]+", lambda part: _parameter(part[0]), query)
    return shown + (f"#{HIDDEN}" if fragment else "")


def _without_user(rest: str, may_have_at_in_path: bool) -> str:
    """Leave out what stands before the host, also where a password has characters that should be escaped."""
    end = next((at for at, character in enumerate(rest) if character in "/?#"), len(rest))
    fits = _AUTHORITY.fullmatch(rest, 0, end)
    cut = rest.rfind("@")
    if may_have_at_in_path and fits:
        cut = rest.rfind("@", 0, end)
        if cut < 0 and fits[1]:
            # "user:1/2@host": a password or a port and a path; the first would be a secret.
            cut = rest.rfind("@", 0, rest.find("?") if "?" in rest else len(rest))
    if cut < 0 and end and not fits and not rest.startswith(HIDDEN):
        # No host, and no @ behind what should stand before one: a password, most likely.
        return HIDDEN + rest[end:]
    return rest if cut < 0 else f"{HIDDEN}@{rest[cut + 1 :]}"


def _without_rest(path: str, scheme: str) -> str:
    """Leave out what of a path, the host before it, may be a key."""
    host, slash, path = path.partition("/")
    if not slash or not path or scheme in _WITH_FILE:
        return host + slash + path
    first, more, rest = path.partition("/")
    shown = bool(_WORD.fullmatch(first)) or (scheme in _WITH_DATABASE and bool(_DATABASE.fullmatch(first)))
    if not shown:
        return f"{host}/{HIDDEN}"
    return f"{host}/{first}{more}{HIDDEN if rest else ''}"


def _parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return HIDDEN
    return f"{name}={HIDDEN}" if value else part


def safe_text(text: str) -> str:
    """Return a text, of an error say, with every URL in it fit to be seen."""
    if "://" in text:
        text = _URL.sub(_safe_match, text)
    if "?" in text:
        text = _PATH_WITH_QUERY.sub(_safe_match, text)
    if "with url: " in text:
        text = _PATH_OF_REQUEST.sub(_safe_match, text)
    return text


def _safe_match(match: re.Match[str]) -> str:
    url = match[0].rstrip(_CLOSING)
    return safe_url(url) + match[0][len(url) :]


def printable(text: str) -> str:
    """Return the text with what is no visible character escaped: no line ends, no terminal codes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_record(record: logging.LogRecord) -> bool:
    """Make a log record fit to be seen; a filter that lets everything pass."""
    record.msg, record.args = printable(safe_text(record.getMessage())), ()
    if record.exc_info and not record.exc_text:
        trace = logging.Formatter().formatException(record.exc_info)
        record.exc_text = "\n".join(printable(safe_text(line)) for line in trace.split("\n"))
    return True


def make_output_safe() -> None:
    """Have stdout and stderr escape what their encoding lacks, and hide a URL's secrets, whoever writes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and "write" not in vars(stream):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")
            # On the stream itself: gevent's hub, Celery's banner and others' loggers write there as well.
            vars(stream)["write"] = _safe_writer(stream.write)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_uncaught_in_thread


def _safe_writer(write: Callable[[str], int]) -> Callable[[str], int]:
    def write_safely(text: str) -> int:
        write(safe_text(text))
        return len(text)

    return write_safely


def _show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        print(printable(safe_text(line)), file=sys.stderr, flush=True)


def _show_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        print(f"in the thread {args.thread.name if args.thread else '?'}:", file=sys.stderr)
        _show_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def to_text(data: bytes) -> str:
    """Return the text of bytes that are UTF-8, or what their byte order mark says.

    Raises:
        UnicodeDecodeError: they are not.
    """
    if data.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return data.decode("utf-32")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")
