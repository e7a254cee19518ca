"""The HTTP side: an ASGI application over the API, with long polls, and the server that runs it."""

import asyncio
import json
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
import uvicorn

from queuebench.errors import SettingsError
from queuebench.local_sqs import query
from queuebench.local_sqs.api import Api, Call, ReceiveRequest
from queuebench.local_sqs.bill import Bill
from queuebench.local_sqs.errors import SqsError, internal_error, serialization, throttled
from queuebench.local_sqs.faults import Latency, Mishap
from queuebench.local_sqs.log import Log
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.validation import Json
from queuebench.plumbing.http_limits import LimitedProtocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TARGET_PREFIX = "AmazonSQS."
# botocore keeps idle connections and finds out late that one was closed
KEEP_ALIVE_SECONDS = 75
_AMZ_JSON = b"application/x-amz-json-1.0"
_FORM = "application/x-www-form-urlencoded"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ClientGoneError(Exception):
    """The connection was closed before its request was answered."""


class Application:
    """The ASGI application: POST is the SQS protocol, GET /health, /bill and /faults are ours.

    Args:
        api: the actions.
        clock: returns seconds since the epoch, never going back.
        latency: how long requests take.
        log: where events are kept, or None.
        new_id: makes a fresh UUID, as text.
        on_fatal: called with one line when the log can no longer be written.
    """

    def __init__(
        self,
        api: Api,
        *,
        clock: Callable[[], float],
        latency: Latency,
        log: Log | None,
        new_id: Callable[[], str],
        on_fatal: Callable[[str], None],
        options: Callable[[], str],
    ) -> None:
        self._api = api
        self._options = options
        self._engine = api.engine
        self._clock = clock
        self._latency = latency
        self._log = log
        self._new_id = new_id
        self._on_fatal = on_fatal
        self._pollers: dict[Queue, deque[asyncio.Future[None]]] = {}
        self._timers: dict[Queue, asyncio.TimerHandle] = {}
        self._moves: asyncio.TimerHandle | None = None
        self._stopping = False
        self.bill = Bill(since=clock())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            request_id = self._new_id()
            if scope["method"] == "POST" or (
                scope["method"] == "GET" and b"Action=" in scope["query_string"]
            ):
                status, body, headers = await self._answer_sqs(scope, receive, request_id)
            else:
                status, body, headers = await self._answer_other(scope, receive)
        except ClientGoneError:
            return
        headers += [
            (b"x-amzn-requestid", request_id.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # The SQS protocol

    async def _answer_sqs(
        self, scope: Scope, receive: Receive, request_id: str
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        target = host = kind = trace = ""
        for name, value in scope["headers"]:
            if name == b"x-amz-target":
                target = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
            elif name == b"content-type":
                kind = value.decode("latin-1").lower()
            elif name == b"x-amzn-trace-id":
                trace = value.decode("latin-1")
        action = target.removeprefix(TARGET_PREFIX)
        is_query = not target and (scope["method"] == "GET" or kind.startswith(_FORM))
        call = Call(self._clock(), host or _address(scope), trace)
        try:
            body = await _read_body(receive)
            if is_query:
                action, request = query.parse(body or scope["query_string"], scope["path"])
                if not self._api.knows(action):
                    raise SqsError("InvalidAction", f"The action {action} is not valid for this endpoint.")
            else:
                if action == target or not self._api.knows(action):
                    raise SqsError(
                        "UnknownOperationException", f"Unknown operation: {target or 'no X-Amz-Target'}"
                    )
                request = _parse(body)
            reply = await self._do(action, request, call, receive)
        except SqsError as error:
            if error.status >= 500 or error.shape == "RequestThrottled":
                self.bill.count_unbilled(error.code)
            elif self._api.knows(action):
                self.bill.count(action, call.queue_name, 0)
            if is_query:
                return error.status, query.error_xml(error, request_id), [(b"content-type", b"text/xml")]
            return _error_response(error)
        self.bill.count(
            action,
            call.queue_name,
            call.payload_bytes,
            is_empty=action == "ReceiveMessage" and not reply,
        )
        if is_query:
            return 200, query.reply_xml(action, reply, request_id), [(b"content-type", b"text/xml")]
        return 200, orjson.dumps(reply), [(b"content-type", _AMZ_JSON)]

    async def _do(self, action: str, request: Json, call: Call, receive: Receive) -> Json:
        seconds = self._latency.draw_seconds()
        if seconds:
            await asyncio.sleep(seconds)
        mishap = self._api.faults.mishap()
        if mishap is Mishap.THROTTLED:
            raise throttled()
        if mishap is Mishap.ERROR_BEFORE:
            raise internal_error()
        call.now = self._clock()
        try:
            if action == "ReceiveMessage":
                reply = await self._receive(self._api.receive_request(request, call), call, receive)
            else:
                reply = self._api.handle(action, request, call)
        finally:
            self._keep_events()
            self._wake_all()
        if action == "StartMessageMoveTask":
            self._run_moves()
        if mishap is Mishap.ERROR_AFTER:
            raise internal_error()
        return reply

    def _keep_events(self) -> None:
        """Write what happened to the log, before anyone is told.

        Raises:
            SqsError: it cannot be written; the process is about to stop.
        """
        events = self._engine.events
        if self._log is None or not events:
            return
        try:
            self._log.append(events)
            events.clear()
            if self._log.is_worth_compacting(self._engine.snapshot_size()):
                self._log.begin_compacting(self._engine.snapshot())
            self._log.go_on_compacting()
        except OSError as error:
            self._log = None
            self._on_fatal(f"cannot write the log: {error.strerror}")
            raise internal_error() from None

    # Long polls

    async def _receive(self, request: ReceiveRequest, call: Call, receive: Receive) -> Json:
        reply = self._api.receive(request, call)
        if reply or not request.wait_seconds or self._stopping:
            return reply
        self._keep_events()
        deadline = call.now + request.wait_seconds
        gone = asyncio.ensure_future(receive())
        try:
            while not reply and not self._stopping and (left := deadline - call.now) > 0:
                await self._wait(request.queue, left, gone)
                call.now = self._clock()
                reply = self._api.receive(request, call)
        finally:
            gone.cancel()
        return reply

    async def _wait(self, queue: Queue, seconds: float, gone: asyncio.Future[Any]) -> None:
        """Wait until something may be there for this poll, or the time is over.

        Raises:
            ClientGoneError: nobody waits for the answer any more.
        """
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pollers = self._pollers.setdefault(queue, deque())
        pollers.append(awake)
        self._wake(queue)
        try:
            await asyncio.wait({awake, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not awake.done():
                pollers.remove(awake)
        if gone.done():
            self._wake(queue)
            raise ClientGoneError

    def _wake_all(self) -> None:
        for queue in list(self._pollers):
            self._wake(queue)

    def _wake(self, queue: Queue) -> None:
        """Wake the poll that waits longest if there is something for it; else see to being called then."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()
        pollers = self._pollers.get(queue)
        if not pollers:
            self._pollers.pop(queue, None)
            return
        now = self._clock()
        queue.advance(now)
        if queue.deleted or self._stopping:
            while pollers:
                pollers.popleft().set_result(None)
        elif queue.has_deliverable() and queue.in_flight < queue.limits.in_flight:
            pollers.popleft().set_result(None)
        else:
            due = queue.next_due()
            if due is not None:
                loop = asyncio.get_running_loop()
                self._timers[queue] = loop.call_later(max(0.0, due - now), self._wake, queue)

    def _run_moves(self) -> None:
        if self._moves is not None:
            self._moves.cancel()
            self._moves = None
        now = self._clock()
        again = self._engine.run_moves(now)
        try:
            self._keep_events()
        except SqsError:
            return
        self._wake_all()
        if again is not None:
            loop = asyncio.get_running_loop()
            self._moves = loop.call_later(max(0.0, again - now), self._run_moves)

    def stop(self) -> None:
        """Answer every long poll at once, empty."""
        self._stopping = True
        if self._moves is not None:
            self._moves.cancel()
        self._wake_all()

    # What is not SQS

    async def _answer_other(
        self, scope: Scope, receive: Receive
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        status, reply = 200, dict[str, Any]()
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", "/health":
                reply = {
                    "service": "local SQS",
                    "status": "ok",
                    "queues": len(self._engine.queues),
                    "long_polls": sum(map(len, self._pollers.values())),
                    "options": self._options(),
                }
            case "GET", "/bill":
                reply = self.bill.as_json()
            case "GET", "/faults":
                reply = self._api.faults.shares()
            case "PUT", "/faults":
                try:
                    shares = orjson.loads(await _read_body(receive))
                    if not isinstance(shares, dict):
                        raise SettingsError("the body must be a JSON object: fault → share")
                    self._api.faults.change(shares)
                    reply = self._api.faults.shares()
                except (SettingsError, SqsError, ValueError) as error:
                    status, reply = 400, {"error": str(error)}
            case _:
                status, reply = (
                    404,
                    {
                        "error": "this is a local SQS: POST / is its protocol; "
                        "GET /health, GET /bill, GET /faults and PUT /faults are here besides"
                    },
                )
        body = orjson.dumps(reply, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return status, body, [(b"content-type", b"application/json")]


def _error_response(error: SqsError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    fault = "Sender" if error.is_senders_fault else "Receiver"
    headers = [
        (b"content-type", _AMZ_JSON),
        (b"x-amzn-query-error", f"{error.code};{fault}".encode()),
    ]
    return error.status, orjson.dumps({"__type": error.type, "message": error.message}), headers


def _address(scope: Scope) -> str:
    server = scope.get("server")
    return f"{server[0]}:{server[1]}" if server else "localhost"


async def _read_body(receive: Receive) -> bytes:
    """Return a request's body; the server has limits on its size and its time.

    Raises:
        ClientGoneError: the connection was closed.
    """
    parts: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        if not parts and not event.get("more_body"):
            body: bytes = event["body"]
            return body
        parts.append(event["body"])
        if not event.get("more_body"):
            return b"".join(parts)


def _parse(body: bytes) -> Json:
    """Parse a request's JSON object; an empty body stands for an empty one.

    Raises:
        SqsError: it is something else.
    """
    if not body:
        return {}
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = _parse_leniently(body)
    if type(request) is not dict:
        raise serialization("Start of structure or map found where not expected.")
    return request


def _parse_leniently(body: bytes) -> Any:
    """Parse JSON with lone surrogates, which orjson refuses; each becomes U+FFFF, which SQS refuses.

    Raises:
        SqsError: it is not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _LONE_SURROGATE.sub("\uffff", value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return value

    try:
        return clean(json.loads(body, parse_constant=refuse))
    except (ValueError, RecursionError):
        raise serialization("The request is not valid JSON.") from None


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens and leaves signals to `serve`."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket; port 0 takes a free one.

    Raises:
        SettingsError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from None
    return bound


class MonotonicWallClock:
    """Seconds since the epoch that never go back while the process lives."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


async def serve(
    make_application: Callable[[Callable[[str], None]], Application],
    bound: socket.socket,
    on_started: Callable[[], None],
) -> tuple[Application, str | None]:
    """Serve until SIGTERM or SIGINT, or until the application cannot go on; return it and why."""
    failure: list[str] = []

    def stop() -> None:
        server.should_exit = True
        application.stop()

    def fail(line: str) -> None:
        failure.append(line)
        stop()

    application = make_application(fail)
    config = uvicorn.Config(
        application,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, on_started)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    await server.serve([bound])
    return application, failure[0] if failure else None


def main_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where there is one."""
    try:
        import uvloop
    except ImportError:
        print("local SQS: uvloop is not installed, so this is slower than it could be", file=sys.stderr)
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
