"""The endpoint: answers a POST after `PUSH_SECONDS`, thousands at a time, and keeps the tally.

A shipment's id is appended to a log before it is answered with 200, and the log is read again at
start: what was answered is never forgotten, and what arrives twice is known to.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import random
import stat
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson

from queuebench import settings as settings_module
from queuebench.endpoint.tally import Tally, kept_id
from queuebench.errors import QueueBenchError
from queuebench.measuring.records import Count, Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.plumbing.serve import serve
from queuebench.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Arrivals are put into the figures together: each by itself would cost a tenth of a POST.
NOTE_SECONDS = 0.1


class Endpoint:
    """The ASGI application; holds nothing of a body, 32 bytes of each arrival for 0.1 s, and the tally."""

    def __init__(self, settings: Settings, log: Path, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self.tally = Tally()
        # By run: start and end in Unix seconds, seconds that the answer took, the intended time or 0.
        self._arrivals: dict[str, list[tuple[float, float, float, float]]] = {}
        self._log = _open(log)
        self._unkept = False
        self._read(log)

    def _read(self, log: Path) -> None:
        torn = 0
        with log.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    self.tally.add(kept_id(line[:-1].decode("latin-1")))
                else:
                    torn = len(line)
        if torn:
            # Never answered: the write that the crash cut short.
            os.ftruncate(self._log, os.fstat(self._log).st_size - torn)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if scope["method"] == "POST":
                await self._post(scope, receive, send)
            else:
                await answer_get(self.tally, scope, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            self._note()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        started_at = time.time()
        shipment_id, intended_at = "", 0.0
        for name, value in scope["headers"]:
            if name == b"idempotency-key":
                shipment_id = value.decode("latin-1")
            elif name == b"intended-at":
                intended_at = _seconds(value)
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        chance = random.random()
        settings = self._settings
        if chance < settings.endpoint_fail_share:
            self._telemetry.record(None, Stage.ANSWER, counts={Count.REFUSED: 1})
            await _answer(send, 500, b'{"error":"told to fail"}')
            return
        slow = chance < settings.endpoint_fail_share + settings.endpoint_slow_share
        await asyncio.sleep(settings.endpoint_slow_seconds if slow else settings.push_seconds)
        shipment_id = kept_id(shipment_id) if shipment_id else uuid.uuid4().hex
        if not self._keep(shipment_id):
            await _answer(send, 503, b'{"error":"the log takes nothing"}')
            return
        run = self.tally.add(shipment_id)
        now = time.time()
        await _answer(send, 200, b'{"accepted":true}')
        if not self._arrivals:
            asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note)
        arrived = started_at, now, time.perf_counter() - started, intended_at if run else 0.0
        self._arrivals.setdefault(run, []).append(arrived)

    def _keep(self, shipment_id: str) -> bool:
        """Append an id to the log; False: it is not in there, so that the shipment has not arrived."""
        line = shipment_id.encode("latin-1") + b"\n"
        try:
            written = os.write(self._log, line)
            if written < len(line):
                # The rest of it would follow the next id, or never.
                os.ftruncate(self._log, os.fstat(self._log).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._unkept:
                self._unkept = True
                why = f"the log can't be written, so what comes is answered with 503: {error.strerror}"
                print(f"endpoint: {why}", file=sys.stderr, flush=True)
            return False
        if self._unkept:
            self._unkept = False
            print("endpoint: the log is written again", file=sys.stderr, flush=True)
        return True

    def _note(self) -> None:
        """Put the arrivals since the last time into the figures."""
        arrivals, self._arrivals = self._arrivals, {}
        for run, arrived in arrivals.items():
            if run and (untimed := sum(not intended_at for *_, intended_at in arrived)):
                counts = {Count.ARRIVED: untimed, Count.UNTIMED: untimed}
                self._telemetry.record(run, Stage.ANSWER, counts=counts)
                arrived = [each for each in arrived if each[3]]
                if not arrived:
                    continue
            started_at, ended_at, durations, _ = zip(*arrived, strict=True)
            self._telemetry.record(
                run,
                Stage.ANSWER,
                counts={Count.ARRIVED: len(durations)},
                durations=durations,
                started_at=min(started_at),
                ended_at=max(ended_at),
            )
            waited = [now - intended_at for _, now, _, intended_at in arrived if intended_at]
            if waited:
                self._telemetry.record(run, Stage.END_TO_END, durations=waited)


def _open(log: Path) -> int:
    """Return the open log.

    Raises:
        QueueBenchError: it cannot be kept there.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        # A pipe is not to be waited for.
        file = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise QueueBenchError(
            f"the log cannot be kept in {log}: {error.strerror}; name another --log"
        ) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise QueueBenchError(f"the log cannot be kept in {log}: it is no regular file; name another --log")
    return file


async def answer_get(tally: Tally, scope: Scope, send: Send) -> None:
    """Answer a GET: what arrived of a run."""
    if scope["path"].rstrip("/").endswith("/health"):
        await _answer(send, 200, b'{"ok":true}')
        return
    if not scope["path"].rstrip("/").endswith("/tally"):
        await _answer(send, 404, b'{"error":"POST a shipment, or GET /tally?run=ID"}')
        return
    query = parse_qs(scope["query_string"].decode("latin-1"))
    run = query.get("run", [""])[0]
    answer: dict[str, Any] = {
        "endpoint": "queuebench",
        "run": run,
        "distinct": tally.distinct(run),
        "duplicates": tally.duplicates(run),
    }
    if "numbers" in query:
        answer["numbers"] = tally.numbers(run).to_json()
    await _answer(send, 200, orjson.dumps(answer))


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _seconds(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m queuebench endpoint", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: 8000)")
    parser.add_argument("--log", type=Path, default=Path("results/endpoint.log"), help="where the ids go")
    options = parser.parse_args(argv)
    settings = settings_module.load()
    telemetry = Telemetry("endpoint", settings.monitor_url)
    app = Endpoint(settings, options.log, telemetry)
    return serve(app, "endpoint", options.host, options.port, telemetry)
