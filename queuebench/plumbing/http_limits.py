"""What one client may take of an HTTP server: bytes and time, for a request's head and its body."""

import asyncio
import ctypes
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# request line and headers together
MAX_HEAD_BYTES = 65_536
# 1 MiB of text is 6 MiB once JSON has escaped each of its bytes as \u003c
MAX_BODY_BYTES = 8 * 1024 * 1024
# all bodies together that have not arrived in one piece and are not answered yet
MAX_UNDER_WAY_BYTES = 64 * 1024 * 1024
# from the connection, or from the first byte of a later request, to the end of its head
HEAD_SECONDS = 20.0
# from there to the end of its body
BODY_SECONDS = 30.0
# how long a client that was refused may go on sending, so that it comes to read why
_LINGER_SECONDS = 2.0
# freed memory goes back to the system once so many bytes of bodies have gone by, a second later
_TRIM_BYTES = 16 * 1024 * 1024


class _UnderWay:
    """The bytes of all bodies under way in this process."""

    def __init__(self) -> None:
        self.bytes = 0
        self._freed = 0
        self._is_trimming = False
        try:
            self._libc: Any = ctypes.CDLL("libc.so.6")
            self._libc.malloc_trim  # noqa: B018
        except (OSError, AttributeError):
            self._libc = None

    def release(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        """Take bytes back; see to it that the allocator gives them back, too."""
        self.bytes -= count
        self._freed += count
        if self._freed >= _TRIM_BYTES and self._libc is not None and not self._is_trimming:
            self._is_trimming = True
            loop.call_later(1, self._trim)

    def _trim(self) -> None:
        self._is_trimming = False
        self._freed = 0
        self._libc.malloc_trim(0)


_under_way = _UnderWay()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: 431 for a long head, 408 for a slow one, 413 and 503 for bodies.

    A connection holds at most MAX_HEAD_BYTES of head and MAX_BODY_BYTES of body; all of them together
    MAX_UNDER_WAY_BYTES of bodies. A request that arrives in one piece costs no timer.
    """

    _timer: asyncio.TimerHandle | None = None
    # a request has ended, and nothing of the next one has arrived
    _is_between = False
    _in_head = True
    _is_refused = False
    _head_bytes = 0
    _body_bytes = 0
    _counted = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._is_between:
            self._is_between, self._in_head, self._head_bytes = False, True, 0
        super().data_received(data)
        if self._is_refused or self._is_between or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._timer is None:
                self._arm(HEAD_SECONDS)
        else:
            _under_way.bytes += self._body_bytes - self._counted
            self._counted = self._body_bytes
            if _under_way.bytes > MAX_UNDER_WAY_BYTES:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            elif self._timer is None:
                self._arm(BODY_SECONDS)

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head = False
        self._body_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES and not self._is_refused:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        # from here on the keep-alive time-out is uvicorn's
        self._is_between = True
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._release()
        super().on_response_complete()

    def _arm(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._in_head and not self._head_bytes:
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        if self._counted:
            _under_way.release(self._counted, self.loop)
            self._counted = 0

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, and close."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._disarm()
        self._release()
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            # the application hears that its client is gone
            cycle.disconnected = True
            cycle.body = bytearray()
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, text, len(text), text)
            )
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)
