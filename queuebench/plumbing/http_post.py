"""POSTs to one URL over connections that are kept, each within a time and in bounded bytes.

Only the status is wanted. `http.client` and urllib3 bound each read and not the whole, take a 103 for the
answer where the answer comes later, and read what a body has without end. What is here is the part of
HTTP/1.1 that a POST needs, at a third of their CPU.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import certifi
import requests

from queuebench.errors import QueueBenchError
from queuebench.plumbing.proxies import ca_bundle, proxy_of
from queuebench.plumbing.resolver import Resolver

CONNECT_TIMEOUT_SECONDS = 5.0
# Of everything until the answer's body begins: interim answers, status and headers.
MOST_HEAD_BYTES = 65_536
# A rest of a body up to so much, and that comes within so long, is read: the connection can be used again.
MOST_REST_BYTES = 65_536
REST_SECONDS = 1.0
_RECEIVE_BYTES = 16_384

_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_TRAILER_END = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n")


class NoConnectionError(Exception):
    """Nobody took the connection, so nothing can have arrived."""


class TlsError(NoConnectionError):
    """Somebody took the connection, but is not to be trusted or speaks no TLS."""


class PostError(Exception):
    """There was a connection, but no answer; the request may have arrived."""


class _UnansweredError(PostError):
    """The connection was closed without a byte of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What of an answer is wanted."""

    status: int
    retry_after: str = ""
    location: str = ""


class _Line(Protocol):
    def send(self, data: bytes, deadline: float) -> None:
        """Send everything; raise OSError."""

    def receive(self, deadline: float) -> bytes:
        """Return some bytes, none at the end; raise OSError, TimeoutError with a deadline that is past."""

    def close(self) -> None:
        """Close it."""


class _Plain:
    """A TCP connection."""

    def __init__(self, resolver: Resolver, deadline: float) -> None:
        deadline = min(deadline, time.monotonic() + CONNECT_TIMEOUT_SECONDS)
        failure: OSError = OSError("no address")
        try:
            for family, kind, protocol, _, address in resolver.addresses(deadline):
                self.socket = socket.socket(family, kind, protocol)
                try:
                    self.socket.settimeout(_left(deadline))
                    self.socket.connect(address)
                    self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return
                except OSError as error:
                    self.socket.close()
                    failure = error
        except (OSError, UnicodeError) as error:
            raise NoConnectionError(f"no connection: {type(error).__name__}: {error}") from error
        raise NoConnectionError(f"no connection: {type(failure).__name__}: {failure}") from failure

    def send(self, data: bytes, deadline: float) -> None:
        self.socket.settimeout(_left(deadline))
        self.socket.sendall(data)

    def receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        # Without waiting where the time is up: what has come is taken.
        self.socket.settimeout(left if left > 0.0 else 0.0)
        try:
            return self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def close(self) -> None:
        self.socket.close()


class _Tls:
    """TLS on a line; in memory, so that the handshake as a whole has an end, in threads and greenlets."""

    def __init__(self, line: _Line, context: ssl.SSLContext, host: str, deadline: float) -> None:
        self._line = line
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                self._flush(deadline)
                return
            except ssl.SSLWantReadError:
                self._flush(deadline)
                if not self._fill(deadline):
                    raise ConnectionResetError("closed during the TLS handshake") from None

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush(deadline)

    def receive(self, deadline: float) -> bytes:
        while True:
            try:
                return self._tls.read(_RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                self._flush(deadline)
                if not self._fill(deadline):
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def close(self) -> None:
        self._line.close()

    def _flush(self, deadline: float) -> None:
        if data := self._out.read():
            self._line.send(data, deadline)

    def _fill(self, deadline: float) -> bool:
        data = self._line.receive(deadline)
        self._in.write(data)
        return bool(data)


class Poster:
    """POSTs bodies to one URL, from as many threads as may be.

    What it holds is bounded: 128 KiB of an answer for each POST under way.
    """

    def __init__(self, url: str, seconds: float) -> None:
        """Prepare POSTs of which each, from the connection to the answer, takes `seconds` at the most.

        Raises:
            QueueBenchError: the URL, the proxy or the CA bundle cannot be used.
        """
        self._seconds = seconds
        self._idle: deque[_Line] = deque()
        try:
            # requests knows how a URL is quoted, and makes a header of a user and password in it.
            prepared = requests.Request("POST", url).prepare()
        except (requests.RequestException, ValueError) as error:
            raise QueueBenchError(f"PUSH_URL cannot be used: {error}") from None
        parts = urlsplit(prepared.url or "")
        self._host, self._tls = parts.hostname or "", None
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        target, headers = prepared.path_url, {"Host": parts.netloc.rpartition("@")[2]}
        proxy = proxy_of(url)
        self._proxy, self._tunnel, self._proxy_tls = urlsplit(proxy) if proxy else None, b"", None
        if parts.scheme == "https":
            self._tls = _tls_context()
        if self._proxy is None:
            self._resolver = Resolver(self._host, self._port)
        else:
            port = _port_of_proxy(self._proxy)
            self._resolver = Resolver(self._proxy.hostname or "", port)
            via, name = _authorization(self._proxy), f"{self._host}:{self._port}"
            if self._proxy.scheme == "https":
                self._proxy_tls = _tls_context()
            if self._tls is None:
                target, headers = f"http://{headers['Host']}{target}", headers | via
            else:
                self._tunnel = _head(f"CONNECT {name}", {"Host": name} | via) + b"\r\n"
        common = {"User-Agent": "queuebench", "Accept": "*/*", "Content-Type": "application/json"}
        if "Authorization" in prepared.headers:
            common["Authorization"] = str(prepared.headers["Authorization"])
        self._head = _head(f"POST {target}", headers | common)

    def check(self) -> None:
        """Connect once where that needs TLS: a certificate that can't be trusted is said at the start.

        Raises:
            QueueBenchError: TLS failed. An endpoint that is away is none of that.
        """
        if self._tls is None and self._proxy_tls is None:
            return
        try:
            line = self._connect(time.monotonic() + min(self._seconds, CONNECT_TIMEOUT_SECONDS))
        except TlsError as error:
            raise QueueBenchError(f"{error}; mend the endpoint or PUSH_URL") from None
        except (NoConnectionError, PostError, OSError):
            return
        if not isinstance(line, Answer):
            line.close()

    def post(self, body: bytes, headers: str) -> Answer:
        """POST a body with more headers, each ended by CR LF, and return the final answer's status.

        Raises:
            NoConnectionError: nothing has been sent.
            PostError: no answer, or none that is HTTP, in time.
        """
        deadline = time.monotonic() + self._seconds
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (
            self._head,
            headers.encode("latin-1"),
            len(body),
            body,
        )
        try:
            if (line := self._kept()) is not None:
                try:
                    return self._exchange(line, request, deadline)
                except _UnansweredError:
                    pass  # closed while it was idle, most likely: once more, on a new one
            fresh = self._connect(deadline)
            return fresh if isinstance(fresh, Answer) else self._exchange(fresh, request, deadline)
        except TimeoutError:
            raise PostError(f"no answer within {self._seconds:g} s") from None
        except OSError as error:
            raise PostError(f"{type(error).__name__}: {error}") from error

    def _kept(self) -> _Line | None:
        """Return an idle connection that is still up, and on which nothing has come that nobody asked for."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:
                break
            try:
                line.receive(0.0)
            except TimeoutError:
                return line
            except OSError:
                pass
            line.close()
        return None

    def _connect(self, deadline: float) -> _Line | Answer:
        """Return a new connection, or what a proxy answered that will not make one."""
        line: _Line = _Plain(self._resolver, deadline)
        try:
            if self._proxy_tls is not None and self._proxy is not None:
                line = _secured(line, self._proxy_tls, self._proxy.hostname or "", deadline)
            if self._tunnel:
                line.send(self._tunnel, deadline)
                answer, _, rest = _read_head(line, deadline)
                if answer.status in (401, 403, 407):
                    line.close()
                    return answer
                if not 200 <= answer.status < 300 or rest:
                    raise NoConnectionError(f"no connection: the proxy answered {answer.status}")
            if self._tls is not None:
                line = _secured(line, self._tls, self._host, deadline)
        except (OSError, PostError) as error:
            line.close()
            raise NoConnectionError(f"no connection: {type(error).__name__}: {error}") from error
        except NoConnectionError:
            line.close()
            raise
        return line

    def _exchange(self, line: _Line, request: bytes, deadline: float) -> Answer:
        usable = False
        try:
            sent = True
            try:
                line.send(request, deadline)
            except ConnectionError:
                sent = False  # an answer may have come before all of the request was taken
            answer, framing, rest = _read_head(line, deadline)
            with contextlib.suppress(OSError):  # the status is known
                usable = sent and _is_read(line, framing, rest, deadline)
            return answer
        finally:
            if usable:
                self._idle.append(line)
            else:
                line.close()


def _read_head(line: _Line, deadline: float) -> tuple[Answer, int | None, bytearray]:
    """Return the final answer, how long its body is, and what of it has come.

    The length: -1 is chunked, and None says that the connection cannot be used again.
    """
    data, total = bytearray(), 0
    while True:
        searched = 0
        while (end := _HEAD_END.search(data, searched)) is None:
            searched = max(0, len(data) - 3)
            if total > MOST_HEAD_BYTES:
                raise PostError(f"an answer's headers are longer than {MOST_HEAD_BYTES} bytes")
            if not b"HTTP/1."[: len(data)] == data[:7]:
                raise PostError("the answer is no HTTP/1.1")
            try:
                more = line.receive(deadline)
            except ConnectionError:
                more = b""
            if not more:
                if total:
                    raise PostError("the connection was closed in the middle of an answer")
                raise _UnansweredError("the connection was closed without an answer")
            total += len(more)
            data += more
        first = _STATUS.match(data)
        if first is None:
            raise PostError("the answer is no HTTP/1.1")
        minor, status = bytes(first[1]), int(first[2])
        if status >= 200:
            answer, length = _headers(status, bytes(data[first.end() : end.start()]))
            del data[: end.end()]
            return answer, None if minor == b"0" else length, data
        # An interim answer: the final one is still to come.
        del data[: end.end()]


def _headers(status: int, lines: bytes) -> tuple[Answer, int | None]:
    length: int | None = None
    lengths, coding, connection, retry_after, location = set(), b"", b"", "", ""
    for line in lines.split(b"\n"):
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length":
            lengths.add(value)
        elif name == b"transfer-encoding":
            coding += b"," + value.lower()
        elif name == b"connection":
            connection += b"," + value.lower()
        elif name == b"retry-after":
            retry_after = value[:100].decode("latin-1")
        elif name == b"location":
            location = value[:500].decode("latin-1")
    if b"close" in connection:
        length = None
    elif status in (204, 304):
        length = 0
    elif coding:
        length = -1 if coding == b",chunked" and not lengths else None
    elif len(lengths) == 1 and (text := lengths.pop()).isdigit() and len(text) < 16:
        length = int(text)
    return Answer(status, retry_after, location), length


def _is_read(line: _Line, length: int | None, data: bytearray, deadline: float) -> bool:
    """Read a bounded rest of the body, and tell whether it came to its end and to nothing else."""
    if length is None or length > MOST_REST_BYTES:
        return False
    if len(data) == length:
        return True
    deadline = min(deadline, time.monotonic() + REST_SECONDS)
    while True:
        end = length if length >= 0 else _chunked_end(data)
        if end is not None and len(data) >= end:
            return len(data) == end
        if len(data) > MOST_REST_BYTES or time.monotonic() > deadline or not (more := line.receive(deadline)):
            return False
        data += more


def _chunked_end(data: bytearray) -> int | None:
    """Return where a chunked body ends; None: it goes on. What is no such body ends before its beginning."""
    at = 0
    while (chunk := _CHUNK.match(data, at)) is not None:
        size = int(chunk[1], 16)
        if size == 0:
            trailer = _TRAILER_END.match(data, chunk.end())
            return None if trailer is None else trailer.end()
        at = chunk.end() + size
        ending = data[at : at + 2]
        if not b"\r\n".startswith(ending):
            return -1
        at += 2
    return None if len(data) - at < 1024 else -1


def _secured(line: _Line, context: ssl.SSLContext, host: str, deadline: float) -> _Line:
    try:
        return _Tls(line, context, host, deadline)
    except ssl.SSLCertVerificationError as error:
        raise TlsError(
            f"TLS failed: {host}'s certificate is not to be trusted: {error.verify_message}"
        ) from None
    except (ssl.SSLError, ssl.CertificateError, ValueError) as error:
        raise TlsError(f"TLS failed with {host}: {getattr(error, 'reason', None) or error}") from None


def _tls_context() -> ssl.SSLContext:
    """Return what verifies certificates as requests does.

    Raises:
        QueueBenchError: the CA bundle that the environment names cannot be read.
    """
    bundle = ca_bundle()
    path = certifi.where() if bundle is True else str(bundle)
    file, folder = (None, path) if Path(path).is_dir() else (path, None)
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except (OSError, ValueError) as error:
        raise QueueBenchError(f"the CA bundle {path} cannot be read: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _port_of_proxy(proxy: SplitResult) -> int:
    """Return the port of a proxy.

    Raises:
        QueueBenchError: it is none that can be spoken to.
    """
    try:
        if proxy.scheme in ("http", "https") and proxy.hostname:
            return proxy.port or (443 if proxy.scheme == "https" else 80)
    except ValueError:
        pass
    raise QueueBenchError("the proxy of the environment cannot be used: its URL is http://host:port")


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}


def _head(first: str, headers: dict[str, str]) -> bytes:
    lines = [f"{first} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(line + "\r\n" for line in lines).encode("latin-1")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError("timed out")
    return left
