"""The monitor's HTTP interface: what is asked for, and who may ask."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from queuebench import settings as settings_module
from queuebench.errors import QueueBenchError, QueueError
from queuebench.measuring.records import (
    JoinRequest,
    LeaveRequest,
    ProcessReport,
    ReportAnswer,
    decode,
)
from queuebench.monitor.monitor import Monitor
from queuebench.plumbing.printable import safe_text
from queuebench.plumbing.serve import serve
from queuebench.report import charts
from queuebench.report.page import LIBRARY_URL, html

TICK_SECONDS = 1.0
HELD_SECONDS = 3.0  # a tick that is later by so much: the process was held
MOST_COMPARED = 50
MOST_BODY_BYTES = 8 * 2**20

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
T = TypeVar("T")


_ONCE = ("host", "origin", "content-type")
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Za-z:.%_-]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::[0-9]{0,5})?")
_PLAIN = re.compile(r"[a-z0-9_-]+")  # localhost, and names that only a network of one's own resolves


class Refused(QueueBenchError):
    """A request that is not taken: a status and one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Door:
    """Lets in whoever asks by a name that this server can have, and no web page of somebody else's.

    A page elsewhere can make a browser send requests here, and by DNS rebinding make them look as if they
    came from its own name. So a Host has to be an IP address, localhost, a name without a dot (a service of
    Compose, a Pod) or one of `names`; and a POST has to be JSON, which a foreign page may not send, and not
    of a foreign Origin.
    """

    def __init__(self, app: App, names: Sequence[str]) -> None:
        self._app, self._names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "http":
            refusal = self.refusal(scope["method"], scope["headers"])
            if refusal is not None:
                status, text = refusal
                await PlainTextResponse(text + "\n", status)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def refusal(self, method: str, given: Sequence[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        """Return status and reason of a request that is not let in."""
        headers: dict[str, str] = {}
        for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in given):
            # Of two, whoever is before or behind this server might read the other one.
            if name in headers and name in _ONCE:
                return 400, f"there is more than one {name.title()} header"
            headers[name] = value
        host = headers.get("host", "")
        if not self._may_be_ours(host):
            return 403, f"the Host {host[:100]!a} is not known here: name it in MONITOR_HOSTS"
        origin = headers.get("origin")
        if origin is not None and method not in ("GET", "HEAD") and urlsplit_netloc(origin) != host.lower():
            return 403, f"the Origin {origin[:100]!a} is not this server's"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 415, "a POST has to be of Content-Type application/json"
        return None

    def _may_be_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["name"] or "").lower().removesuffix(".")
        if name in self._names or _PLAIN.fullmatch(name):
            return True
        kind = ipaddress.IPv6Address if found["ipv6"] else ipaddress.IPv4Address
        with contextlib.suppress(ValueError):
            return bool(kind(found["ipv6"] or name))
        return False


def urlsplit_netloc(origin: str) -> str:
    """Return host and port of an Origin; '' where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _read(request: Request, what: type[T], called: str) -> T:
    """Read a typed body of bounded length.

    Raises:
        Refused: it is too long, or ended early.
        FormatError: it is of another format, or not what is asked for.
    """
    parts, length = [], 0
    try:
        async for part in request.stream():
            length += len(part)
            if length > MOST_BODY_BYTES:
                raise Refused(413, f"a body may have {MOST_BODY_BYTES:,} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise Refused(400, "the body ended early") from None
    return decode(b"".join(parts), what, called)


def _runs(request: Request) -> list[str]:
    """Return the runs that `?runs=ID,ID` names, each once."""
    named = (name.strip() for name in request.query_params.get("runs", "").split(","))
    return list(dict.fromkeys(name for name in named if name))[:MOST_COMPARED]


def _json(data: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def application(monitor: Monitor, names: Sequence[str] = ()) -> App:
    """Return the monitor's HTTP interface."""
    live = html(None)

    async def report(request: Request) -> Response:
        asked_at = time.time()
        open_run = monitor.report(await _read(request, ProcessReport, "the report"))
        # Half way between question and answer, which is what the other side compares its clock with.
        return _json(ReportAnswer((asked_at + time.time()) / 2.0, open_run))

    async def join(request: Request) -> Response:
        asked = await _read(request, JoinRequest, "the request to join")
        async with joining:
            return _json(await asyncio.to_thread(monitor.join, asked))

    async def leave(request: Request) -> Response:
        asked = await _read(request, LeaveRequest, "the request to leave")
        await asyncio.to_thread(monitor.leave, request.path_params["run"], asked)
        return _json({})

    async def progress(request: Request) -> Response:
        run = request.path_params["run"]
        found = await asyncio.to_thread(monitor.progress, run)
        if found is None:
            return _json({"error": await asyncio.to_thread(monitor.why_not, run)}, 404)
        return _json(found)

    async def page(_: Request) -> Response:
        return HTMLResponse(live)

    async def library(_: Request) -> Response:
        # Its URL changes with it, so a browser may keep it.
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(charts.library()[0], media_type="text/javascript", headers=headers)

    async def data(request: Request) -> Response:
        return _json(await asyncio.to_thread(monitor.page, _runs(request)))

    async def report_html(request: Request) -> Response:
        name = "report.html" if len(_runs(request)) == 1 else "comparison.html"
        text = await asyncio.to_thread(monitor.report_html, _runs(request))
        return HTMLResponse(text, headers={"content-disposition": f'attachment; filename="{name}"'})

    async def prometheus_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(monitor.metrics), media_type=CONTENT_TYPE_LATEST)

    async def health(request: Request) -> Response:
        host = request.query_params.get("host")
        well = host is None or monitor.state.hears_from(host)
        return _json({"ok": well}, 200 if well else 503)

    async def not_yet(_: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, 503)

    async def refused(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", getattr(error, "status", 400))

    async def tick_for_ever() -> None:
        while True:
            try:
                await asyncio.to_thread(monitor.tick)
            except Exception as error:
                # Without a tick no run would ever end, so one that fails must not be the last.
                print(safe_text(f"monitor: {error!r}"), file=sys.stderr, flush=True)
            slept_at = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            held_seconds = time.monotonic() - slept_at - TICK_SECONDS
            if held_seconds > HELD_SECONDS:
                await asyncio.to_thread(monitor.state.was_held, held_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.create_task(tick_for_ever())
        yield
        ticking.cancel()

    # One at a time waits for a run to be opened; the threads are for whoever only wants to know.
    joining = asyncio.Lock()
    app = Starlette(
        routes=[
            Route("/report", report, methods=["POST"]),
            Route("/join", join, methods=["POST"]),
            Route("/runs/{run}/leave", leave, methods=["POST"]),
            Route("/runs/{run}/progress", progress),
            Route("/", page),
            Route(f"/{LIBRARY_URL}", library),
            Route("/data", data),
            Route("/report.html", report_html),
            Route("/metrics", prometheus_metrics),
            Route("/health", health),
        ],
        exception_handlers={QueueError: not_yet, QueueBenchError: refused},
        lifespan=lifespan,
    )
    return Door(app, names)


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m queuebench monitor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one (default: 8080)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the results go")
    options = parser.parse_args(argv)
    settings = settings_module.load()
    monitor = Monitor(settings, options.results)
    return serve(application(monitor, settings.monitor_hosts), "monitor", options.host, options.port)
