"""The HTTP side: an ASGI application over the API, with long polls."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import orjson

from queuebench.errors import SettingsError
from queuebench.local_sqs import query, wire
from queuebench.local_sqs.api import Api
from queuebench.local_sqs.bill import Bill
from queuebench.local_sqs.call import Call
from queuebench.local_sqs.errors import SqsError, internal_error, throttled
from queuebench.local_sqs.faults import Latency, Mishap
from queuebench.local_sqs.log import Log
from queuebench.local_sqs.polls import Polls
from queuebench.local_sqs.queue import Queue
from queuebench.local_sqs.receiving import ReceiveRequest
from queuebench.local_sqs.replay import snapshot, snapshot_size
from queuebench.local_sqs.validation import Json
from queuebench.local_sqs.wire import (
    AMZ_JSON,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    address,
    error_response,
    read_body,
)

TARGET_PREFIX = "AmazonSQS."
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_IS_JSON = [(b"content-type", b"application/json")]
_IS_XML = [(b"content-type", b"text/xml")]
# a queue's address, …/account/name
_QUEUE_PATH = re.compile(r"/[0-9]{12}/[A-Za-z0-9_.-]+/?")


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
        self._polls = Polls(clock)
        self._moves: asyncio.TimerHandle | None = None
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
        target = host = kind = trace = accept = ""
        for name, value in scope["headers"]:
            if name == b"x-amz-target":
                target = value.decode("latin-1")
            elif name == b"host":
                host = value.decode("latin-1")
            elif name == b"content-type":
                kind = value.decode("latin-1").lower()
            elif name == b"x-amzn-trace-id":
                trace = value.decode("latin-1")
            elif name == b"accept":
                accept = value.decode("latin-1").lower()
        action = target.removeprefix(TARGET_PREFIX)
        is_query = not target and (scope["method"] == "GET" or kind.startswith(_FORM))
        call = Call(self._clock(), host or address(scope), trace)
        try:
            body = await read_body(receive)
            if is_query:
                action, request = query.parse(body or scope["query_string"], scope["path"])
                if not self._api.knows(action):
                    raise query.invalid_action(action)
            else:
                if action == target or not self._api.knows(action):
                    raise SqsError(
                        "UnknownOperationException", f"Unknown operation: {target or 'no X-Amz-Target'}"
                    )
                request = wire.parse(body)
            reply = await self._do(action, request, call, receive)
        except SqsError as error:
            if error.status >= 500 or error.shape == "RequestThrottled":
                self.bill.count_unbilled(error.code)
            elif self._api.knows(action):
                self.bill.count(action, call.queue_name, 0)
            if not is_query:
                return error_response(error)
            if accept == _JSON:
                return error.status, query.error_json(error, request_id), _IS_JSON.copy()
            return error.status, query.error_xml(error, request_id), _IS_XML.copy()
        self.bill.count(
            action,
            call.queue_name,
            call.payload_bytes,
            is_empty=action == "ReceiveMessage" and not reply,
        )
        if not is_query:
            return 200, orjson.dumps(reply), [(b"content-type", AMZ_JSON)]
        if accept == _JSON:
            return 200, query.reply_json(action, reply, request_id), _IS_JSON.copy()
        return 200, query.reply_xml(action, reply, request_id), _IS_XML.copy()

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
                reply = await self._receive(self._api.receiving.request(request, call), call, receive)
            else:
                reply = self._api.handle(action, request, call)
        finally:
            self._keep_events()
            self._wake(call.queue)
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
            if self._log.is_worth_compacting(snapshot_size(self._engine)):
                self._log.begin_compacting(snapshot(self._engine))
            self._log.go_on_compacting()
        except OSError as error:
            self._log = None
            self._on_fatal(f"cannot write the log: {error.strerror}")
            raise internal_error() from None

    # Long polls

    async def _receive(self, request: ReceiveRequest, call: Call, receive: Receive) -> Json:
        reply = self._api.receiving.receive(request, call)
        if reply or not request.wait_seconds or self._polls.stopping:
            return reply
        self._keep_events()
        deadline = call.now + request.wait_seconds
        gone = asyncio.ensure_future(receive())
        try:
            while not reply and not self._polls.stopping and (left := deadline - call.now) > 0:
                await self._polls.wait(request.queue, left, gone)
                call.now = self._clock()
                reply = self._api.receiving.receive(request, call)
        finally:
            gone.cancel()
        return reply

    def _wake(self, queue: Queue | None) -> None:
        """Wake the polls of the queue that was asked, and of those that others' messages came into."""
        reached, self._engine.reached = self._engine.reached, set()
        for other in reached:
            self._polls.wake(other)
        if queue is not None:
            self._polls.wake(queue)

    def _run_moves(self) -> None:
        if self._moves is not None:
            self._moves.cancel()
            self._moves = None
        now = self._clock()
        again = self._api.moves.run(now)
        try:
            self._keep_events()
        except SqsError:
            return
        self._wake(None)
        if again is not None:
            loop = asyncio.get_running_loop()
            self._moves = loop.call_later(max(0.0, again - now), self._run_moves)

    def stop(self) -> None:
        """Answer every long poll at once, empty."""
        self._polls.stop()
        if self._moves is not None:
            self._moves.cancel()

    # What is not SQS

    async def _answer_other(
        self, scope: Scope, receive: Receive
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        status, reply = 200, dict[str, Any]()
        if scope["method"] == "GET" and _QUEUE_PATH.fullmatch(scope["path"]):
            return 404, query.UNKNOWN_OPERATION, _IS_XML.copy()
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", "/health":
                reply = {
                    "service": "local SQS",
                    "status": "ok",
                    "queues": len(self._engine.queues),
                    "long_polls": len(self._polls),
                    "options": self._options(),
                }
            case "GET", "/bill":
                reply = self.bill.as_json()
            case "GET", "/faults":
                reply = self._api.faults.shares()
            case "PUT", "/faults":
                try:
                    shares = orjson.loads(await read_body(receive))
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
