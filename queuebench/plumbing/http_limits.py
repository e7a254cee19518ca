"""What one client may take of an HTTP server: bytes and time, for a request's head, body and answer."""

import asyncio
import ctypes
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# request line and headers together; and what a body has besides its bytes: chunk sizes, extensions, trailers
MAX_HEAD_BYTES = 65_536
# 1 MiB of text is 6 MiB once JSON has escaped each of its bytes as \u003c
MAX_BODY_BYTES = 8 * 1024 * 1024
# a chunk of one byte is six on the wire
MAX_WIRE_BYTES_PER_BODY_BYTE = 8
# all bodies together that have not arrived in one piece and are not answered yet
MAX_UNDER_WAY_BYTES = 64 * 1024 * 1024
# requests of one connection that wait for the answers to earlier ones
MAX_PIPELINED = 100
# all answers together that their clients do not read
MAX_UNREAD_BYTES = 256 * 1024 * 1024
# from the connection, or from the first byte of a later request, to the end of its head
HEAD_SECONDS = 20.0
# from there to the end of its body
BODY_SECONDS = 30.0
# from an answer that does not fit the connection's buffers until it has been read
READ_SECONDS = 60.0
# how long a client that was refused may go on sending, so that it comes to read why
_LINGER_SECONDS = 2.0
# about what a connection takes that says nothing
_CONNECTION_BYTES = 6_144
# freed memory goes back to the system once so many bytes have gone by, a second later
_TRIM_BYTES = 16 * 1024 * 1024


class _Memory:
    """The bytes of all bodies under way and of all unread answers in this process."""

    def __init__(self) -> None:
        self.under_way = 0
        self.unread = 0
        self._freed = 0
        self._is_trimming = False
        try:
            self._libc: Any = ctypes.CDLL("libc.so.6")
            self._libc.malloc_trim  # noqa: B018
        except (OSError, AttributeError):
            self._libc = None

    def freed(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the allocator gives back so many bytes, together with others."""
        self._freed += count
        if self._freed >= _TRIM_BYTES and self._libc is not None and not self._is_trimming:
            self._is_trimming = True
            loop.call_later(1, self._trim)

    def _trim(self) -> None:
        self._is_trimming = False
        self._freed = 0
        self._libc.malloc_trim(0)


_memory = _Memory()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: 431 for a long head, 408 for a slow one, 413 and 503 for bodies.

    A connection holds at most MAX_HEAD_BYTES of head, MAX_BODY_BYTES of body and MAX_PIPELINED requests; all
    of them together MAX_UNDER_WAY_BYTES of bodies and MAX_UNREAD_BYTES of answers. A request that arrives in
    one piece costs no timer.
    """

    _timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    # a request has ended, and nothing of the next one has arrived
    _is_between = False
    _in_head = True
    _is_refused = False
    # a request ended within the bytes that are being parsed
    _has_ended = False
    _received = 0
    _head_bytes = 0
    _wire_bytes = 0
    _body_bytes = 0
    _counted = 0
    _unread = 0
    # the request that the application is at; `cycle` is the one that arrived last
    _running: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._release()
        self._is_read()
        self._drop_requests()
        _memory.freed(_CONNECTION_BYTES + self._received, self.loop)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._is_refused:
            return
        if self._is_between:
            self._begin_head()
        was_in_head, self._has_ended = self._in_head, False
        super().data_received(data)
        if self._is_refused or self._is_between or self.transport.is_closing():
            return
        if self._in_head:
            # what came before, in the same piece, was another request's
            self._head_bytes += 0 if self._has_ended else len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._timer is None:
                self._arm(HEAD_SECONDS)
            return
        self._wire_bytes += 0 if was_in_head or self._has_ended else len(data)
        _memory.under_way += self._body_bytes - self._counted
        self._counted = self._body_bytes
        if self._wire_bytes > MAX_HEAD_BYTES + MAX_WIRE_BYTES_PER_BODY_BYTE * self._body_bytes:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif _memory.under_way > MAX_UNDER_WAY_BYTES:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        elif self._timer is None:
            self._arm(BODY_SECONDS)

    def _begin_head(self) -> None:
        self._is_between, self._in_head, self._head_bytes = False, True, 0

    # What the parser found

    def on_message_begin(self) -> None:
        if not self._is_refused:
            self._begin_head()
            super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # one that comes after the body is nobody's
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head = False
        self._wire_bytes = self._body_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
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
        self._is_between = self._has_ended = True
        if not self._is_refused:
            super().on_message_complete()

    # Answers

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._release()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_timer is None:
            self._unread = self.transport.get_write_buffer_size()
            _memory.unread += self._unread
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)
            if _memory.unread > MAX_UNREAD_BYTES:
                self.transport.abort()

    def resume_writing(self) -> None:
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
            _memory.unread -= self._unread
            _memory.freed(self._unread, self.loop)

    # Time and refusals

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
            _memory.under_way -= self._counted
            self._counted = 0

    def _drop_requests(self) -> None:
        """Let the application hear that its client is gone, and forget the requests that it has not begun."""
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.body = bytearray()
                cycle.message_event.set()

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, and close."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._disarm()
        self._release()
        self._unset_keepalive_if_required()
        has_begun = self._running is not None and self._running.response_started
        is_answered = self._running is None or self._running.response_complete
        self._drop_requests()
        if is_answered or not has_begun:
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, text, len(text), text)
            )
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)
