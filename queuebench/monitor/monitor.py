"""The monitor: opens and closes runs, keeps the newest totals of each process, writes the results.

It is not on the way of any message. It may be killed and started again: the record of an open run
is on disk, the broker knows which one is its own, and the processes send their totals again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import platform
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from prometheus_client import CONTENT_TYPE_LATEST
from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from queuebench import settings as settings_module
from queuebench.broker import dead_letters
from queuebench.broker.broker import Broker
from queuebench.errors import MessageError, QueueError
from queuebench.figures.summary import summarise
from queuebench.measuring import redis_usage, series
from queuebench.measuring.ranges import Ranges
from queuebench.measuring.run import GONE_SECONDS, RECORD_FORMAT, Run
from queuebench.measuring.series import Series
from queuebench.monitor import prometheus
from queuebench.monitor.history import History
from queuebench.plumbing.proxies import session_for
from queuebench.plumbing.redis_client import connect, explained
from queuebench.plumbing.serve import serve
from queuebench.queues import Depth, open_queue
from queuebench.report import html, page_data, write_report
from queuebench.settings import Settings

TICK_SECONDS = 1.0
# Every process reports once more after the last message has arrived.
LAST_REPORTS_SECONDS = 1.5
RATE_POINTS = 6  # over which the rates of an open run are taken
MOST_COMPARED = 50
PACKAGES = ("celery", "kombu", "redis", "boto3", "requests", "gevent")


class Monitor:
    """Runs, and what is known of the processes."""

    def __init__(self, settings: Settings, results: Path) -> None:
        self._settings, self._results = settings, results
        self._queue = open_queue(settings.queue, settings.options())
        self._broker = Broker(settings.redis_celery_url)
        self._redis = {"broker": self._broker.client}
        if settings.queue == "REDIS":
            self._redis["queue"] = connect(settings.redis_pubsub_url)
        self._processes: dict[str, dict[str, Any]] = {}
        self._seen_at: dict[str, float] = {}
        self._dead_seen = 0
        self._lock = threading.Lock()
        self._session = session_for(settings.push_url)
        self._run: Run | None = None
        self._series = Series()
        self._config: dict[str, tuple[str, dict[str, str]]] = {}
        self._measured: Mapping[str, int] = {}
        results.mkdir(parents=True, exist_ok=True)
        self._history = History(results)
        self._left_open = self._read_left_open()

    def _read_left_open(self) -> dict[str, Run]:
        """Return the runs that have not ended; one that was killed before its summary's last line gets it."""
        left_open = {}
        for path in sorted(self._results.glob("*/run.json")):
            if path.with_name("summary.json").exists():
                continue
            with contextlib.suppress(orjson.JSONDecodeError):
                run = Run(orjson.loads(path.read_bytes()))
                if run.record.get("format") != RECORD_FORMAT:
                    continue
                if not run.is_open:
                    self._write_results(run, series.read(path.with_name("series.jsonl")))
                else:
                    left_open[run.id] = run
        return left_open

    def _resume(self) -> None:
        """Go on with the run that was open when the monitor was killed.

        The broker names it, for its messages are where the broker's tasks are. Any other was left open with
        servers that are gone, or is that of another monitor.

        Raises:
            QueueError: the broker does not answer; until it does nobody knows which run is open.
        """
        if not self._left_open:
            return
        run = self._left_open.get(self._broker.noted_run() or "")
        self._left_open = {}
        if run is not None:
            self._run, self._series = run, series.read(self._results / run.id / "series.jsonl")
            # While everything was stopped, nothing could move.
            run.record["moved_at"] = time.time()
            for publisher in run.record["publishers"].values():
                publisher["seen_at"] = time.time()

    def report(self, report: dict[str, Any]) -> None:
        """Take the newest totals of a process.

        Raises:
            QueueError: see `_resume`.
        """
        now = time.time()
        with self._lock:
            self._processes[report["process"]] = {**report, "runs": {}}
            self._seen_at[report["process"]] = now
            for gone in [p for p, at in self._seen_at.items() if now - at > 10 * GONE_SECONDS]:
                del self._processes[gone], self._seen_at[gone]
            self._resume()
            if self._run is not None:
                self._run.report(report, now)

    def hears_from(self, host: str) -> bool:
        """Tell whether a process of that host is at work."""
        with self._lock:
            return any(
                report["host"] == host
                and not report["ended"]
                and time.time() - self._seen_at[process] < GONE_SECONDS
                for process, report in self._processes.items()
            )

    def join(self, process: str, burst: int, messages: int, settings: dict[str, Any]) -> dict[str, Any]:
        """Let a publisher into the open run, or open one.

        Raises:
            QueueError: see `_resume`.
        """
        with self._lock:
            self._resume()
            if self._run is None:
                self._run = self._open(settings)
            first = self._run.join(process, burst, messages, time.time())
            self._save()
            return {"run_id": self._run.id, "first": first, "backlog": self._run.record["backlog_before"]}

    def leave(self, run_id: str, process: str, burst: int, accepted: list[list[int]]) -> None:
        """Note that a publisher has ended.

        Raises:
            QueueError: see `_resume`.
        """
        with self._lock:
            self._resume()
            if self._run is not None and self._run.id == run_id:
                self._run.leave(process, burst, accepted)
                self._save()

    def progress(self, run_id: str) -> dict[str, Any] | None:
        """Return how far a run is, with its summary when it is over; None: no such run.

        Raises:
            QueueError: see `_resume`.
        """
        with self._lock:
            self._resume()
            if self._run is not None and self._run.id == run_id:
                return how_far(self._run, self._series.points()[-RATE_POINTS:])
        summary = self._history.summary(run_id)
        if summary is None:
            return None
        counts = summary["counts"]
        return {"accepted": counts["published"], "delivered": counts["delivered"], "summary": summary}

    def page(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return what the page shows of some runs; of the open or else the newest one where none is named."""
        earlier = self._history.runs()
        open_id = self.open_run()
        newest = open_id or (earlier[0]["run_id"] if earlier else None)
        wanted = list(run_ids) or ([newest] if newest else [])
        found = [run for run in map(self._figures, wanted) if run is not None]
        return {
            **page_data(found),
            "open": open_id,
            "shown": [summary["run_id"] for summary, _ in found],
            "history": earlier,
        }

    def metrics(self) -> bytes:
        """Return the open or else the newest run's figures as Prometheus reads them."""
        earlier = self._history.runs() if self.open_run() is None else []
        run_id = self.open_run() or (earlier[0]["run_id"] if earlier else "")
        with self._lock:
            points = self._series.points() if self._run is not None and self._run.id == run_id else []
        found = self._figures(run_id, with_series=False)
        return prometheus.exposition(found[0] if found else None, points[-1] if points else None)

    def report_html(self, run_ids: Sequence[str]) -> str:
        """Return some runs as a page that needs no monitor."""
        return html(page_data([run for run in map(self._figures, run_ids) if run is not None]))

    def open_run(self) -> str | None:
        """Return the id of the run that is open."""
        run = self._run
        return None if run is None else run.id

    def _figures(
        self, run_id: str, with_series: bool = True
    ) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]] | None:
        with self._lock:
            if self._run is not None and self._run.id == run_id:
                return summarise(self._run.record), self._series.points()
        summary = self._history.summary(run_id)
        if summary is None:
            return None
        path = self._results / run_id / "series.jsonl"
        return summary, series.read(path).points() if with_series else []

    def tick(self) -> None:
        """Look at the servers, and close the run where it is over."""
        with self._lock, contextlib.suppress(QueueError):
            self._resume()
        run = self._run
        if run is None:
            return
        sample = self._sample(run)
        now = time.time()
        with self._lock:
            run.record["tally"] |= sample["tally"]
            run.record["dead_letters"] = sample["dead_letters"]
            run.record["measuring_requests"] = sample["measuring_requests"]
            for place, found in (("queue", sample["depth"]), ("celery", sample["backlog"])):
                run.record["peaks"][place] = max(run.record["peaks"][place], sum(found or (0, 0)))
            look = run.looks_complete(now) and run.record["tally"]["proven"]
        arrived = self._tally(run.id, numbers=True) if look else {}
        with self._lock:
            run.record["tally"] |= arrived
            how = run.judge(now, sample["empty"])
            moved = run.record["moved_at"] == now
            for name, (info, config) in sample["servers"].items():
                known = run.record["servers"].get(name)
                run.record["servers"][name] = redis_usage.follow(known, info, config, now, moved)
            self._append_series(run, sample, now)
            if how is None:
                run.record["ending_since"] = None
            elif run.record["ending_since"] is None:
                run.record["ending_since"] = now
            elif now - run.record["ending_since"] >= LAST_REPORTS_SECONDS:
                self._close(run, now, how)
                return
            self._save()

    def _open(self, settings: dict[str, Any]) -> Run:
        now = time.time()
        queue = self._settings.queue
        run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{queue.lower()}-{uuid.uuid4().hex[:4]}"
        depth, backlog = self._depth(), self._backlog()
        versions = {"python": platform.python_version()}
        versions |= {package: importlib.metadata.version(package) for package in PACKAGES}
        alive = {
            process: report
            for process, report in self._processes.items()
            if now - self._seen_at[process] < GONE_SECONDS and not report["ended"]
        }
        self._dead_seen = 0
        self._series = Series()
        self._measured = self._queue.requests()
        run = Run.open(
            run_id,
            now,
            settings,
            versions,
            queue,
            self._settings.queue_label,
            {"queue": sum(depth or (0, 0)), "celery": sum(backlog or (0, 0))},
            alive,
        )
        self._note(run)
        for name, (info, config) in self._look_at_servers().items():
            run.record["servers"][name] = redis_usage.follow(None, info, config, now, moved=False)
        return run

    def _close(self, run: Run, now: float, how: str) -> None:
        if run.record["tally"]["proven"] and how != "complete":
            run.record["tally"] |= self._tally(run.id, numbers=True)
        run.close(now, how)
        self._save()
        self._write_results(run, self._series)
        self._run = None
        print(f"monitor: run {run.id} is over: {how}", flush=True)

    def _write_results(self, run: Run, points: Series) -> None:
        summary, folder = summarise(run.record), self._results / run.id
        _write(folder / "summary.json", summary, indent=True)
        # The figures are safe by now, and what shows them must not be able to stop the monitor.
        try:
            write_report(folder / "report.html", page_data([(summary, points.points())]))
        except Exception as error:
            print(f"monitor: no report of run {run.id}: {error!r}", file=sys.stderr, flush=True)

    def _sample(self, run: Run) -> dict[str, Any]:
        self._note(run)
        depth, backlog = self._depth(), self._backlog()
        empty = None if depth is None or backlog is None else not (sum(depth) or sum(backlog))
        requests = Counter(self._queue.requests())
        requests.subtract(self._measured)
        return {
            "depth": depth,
            "backlog": backlog,
            "empty": empty,
            "servers": self._look_at_servers(),
            "measuring_requests": dict(+requests),
            "dead_letters": self._dead_letters(run),
            "tally": self._tally(run.id),
        }

    def _look_at_servers(self) -> dict[str, tuple[Any, dict[str, str]]]:
        infos = {}
        for name, client in self._redis.items():
            with contextlib.suppress(QueueError), explained(client):
                info: Any = client.info()
                infos[name] = (info, self._configuration(name, client, info["run_id"]))
        return infos

    def _configuration(self, name: str, client: Redis, run_id: str) -> dict[str, str]:
        """Ask once in a server's life how it keeps what it has; a managed one may not tell."""
        known = self._config.get(name)
        if known is None or known[0] != run_id:
            config: Any = {}
            with contextlib.suppress(QueueError), explained(client):
                config = client.config_get("appendonly", "appendfsync")
            known = self._config[name] = (run_id, config)
        return known[1]

    def _note(self, run: Run) -> None:
        with contextlib.suppress(QueueError):
            self._broker.note_run(run.id)

    def _depth(self) -> Depth | None:
        with contextlib.suppress(QueueError):
            return self._queue.depth()
        return None

    def _backlog(self) -> Depth | None:
        with contextlib.suppress(QueueError):
            return self._broker.backlog()
        return None

    def _dead_letters(self, run: Run) -> dict[str, Any]:
        known: dict[str, Any] = run.record["dead_letters"]
        with contextlib.suppress(QueueError), explained(self._broker.client):
            length: Any = self._broker.client.llen(dead_letters.KEY)
            first = self._dead_seen if length >= self._dead_seen else 0
            numbers, count = Ranges(known["numbers"]), known["count"]
            records: Any = (
                self._broker.client.lrange(dead_letters.KEY, first, length - 1) if length > first else []
            )
            for record in records:
                try:
                    letter = dead_letters.DeadLetter.decode(record)
                except MessageError:
                    continue
                if letter.run == run.id and letter.number is not None and letter.number not in numbers:
                    numbers.add(letter.number)
                    count += 1
            self._dead_seen = length
            return {"count": count, "numbers": numbers.to_json()}
        return known

    def _tally(self, run_id: str, numbers: bool = False) -> dict[str, Any]:
        """Ask the endpoint what arrived; an endpoint that is not ours proves nothing."""
        if not self._settings.push_url:
            return {"proven": False}
        parts = urlsplit(self._settings.push_url)
        query = {"run": run_id, **({"numbers": "1"} if numbers else {})}
        try:
            answer = self._session.get(
                f"{parts.scheme}://{parts.netloc}/tally", params=query, timeout=(2.0, 10.0)
            )
            data = orjson.loads(answer.content) if answer.status_code == 200 else {}
        except (requests.RequestException, orjson.JSONDecodeError):
            return {}
        if not isinstance(data, dict) or data.get("endpoint") != "queuebench":
            return {"proven": False}
        tally = {"proven": True, "distinct": data["distinct"], "duplicates": data["duplicates"]}
        return {**tally, "arrived": data["numbers"]} if numbers else tally

    def _append_series(self, run: Run, sample: dict[str, Any], now: float) -> None:
        cpu: dict[str, float] = {}
        for process in run.record["processes"].values():
            spent = process["latest"]["cpu_seconds"] - process["baseline"]["cpu_seconds"]
            cpu[process["role"]] = cpu.get(process["role"], 0.0) + spent
        line = {
            "at": now,
            **{name: run.count(name) for name in ("published", "received", "handed_over", "pushed")},
            "delivered": run.delivered(),
            "queue": sample["depth"] and sample["depth"]._asdict(),
            "celery": sample["backlog"] and sample["backlog"]._asdict(),
            "dead_letters": run.record["dead_letters"]["count"],
            "cpu_seconds": {role: round(seconds, 3) for role, seconds in cpu.items()},
            "server_cpu_seconds": {
                name: round(s["cpu_seconds"], 3) for name, s in run.record["servers"].items()
            },
            "memory_bytes": {name: s["used_memory"] for name, s in run.record["servers"].items()},
        }
        self._series.add(line)
        path = self._results / run.id / "series.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as lines:
            lines.write(orjson.dumps(line) + b"\n")

    def _save(self) -> None:
        if self._run is not None:
            _write(self._results / self._run.id / "run.json", self._run.record)


def how_far(run: Run, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how far an open run is: counts, what waits where, rates, and how long it still takes.

    Args:
        run: the run.
        points: the newest of its series, over which the rates are taken.
    """
    accepted, delivered = len(run.accepted()), run.delivered()
    first, last = (points[0], points[-1]) if points else ({}, {})
    seconds = last["at"] - first["at"] if last else 0.0
    rates = {
        name: max(0.0, last[name] - first[name]) / seconds if seconds else 0.0
        for name in ("published", "received", "delivered")
    }
    messages = sum(publisher["messages"] for publisher in run.record["publishers"].values())
    left = max(0, messages - delivered - run.record["dead_letters"]["count"])
    return {
        "accepted": accepted,
        "delivered": delivered,
        "messages": messages,
        "queue": sum(last["queue"].values()) if last and last["queue"] else None,
        "celery": sum(last["celery"].values()) if last and last["celery"] else None,
        "dead_letters": run.record["dead_letters"]["count"],
        "rates": rates,
        "seconds_left": left / rates["delivered"] if rates["delivered"] else None,
        "summary": None,
    }


def _write(path: Path, data: Any, indent: bool = False) -> None:
    """Replace a file in one step, so that a reader or a crash never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2 if indent else None) + b"\n")
    beside.replace(path)


def _runs(request: Request) -> list[str]:
    """Return the runs that `?runs=ID,ID` names, each once."""
    named = (name.strip() for name in request.query_params.get("runs", "").split(","))
    return list(dict.fromkeys(name for name in named if name))[:MOST_COMPARED]


def application(monitor: Monitor) -> Starlette:
    """Return the monitor's HTTP interface."""
    live = html(None)

    async def report(request: Request) -> Response:
        asked_at = time.time()
        await asyncio.to_thread(monitor.report, orjson.loads(await request.body()))
        # Half way between question and answer, which is what the other side compares its clock with.
        return JSONResponse({"now": (asked_at + time.time()) / 2.0})

    async def join(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(monitor.join, **orjson.loads(await request.body())))

    async def leave(request: Request) -> Response:
        body = orjson.loads(await request.body())
        await asyncio.to_thread(monitor.leave, request.path_params["run"], **body)
        return JSONResponse({})

    async def progress(request: Request) -> Response:
        found = await asyncio.to_thread(monitor.progress, request.path_params["run"])
        return JSONResponse(found) if found is not None else JSONResponse({"error": "no such run"}, 404)

    async def unknown_yet(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 503)

    async def page(_: Request) -> Response:
        return HTMLResponse(live)

    async def data(request: Request) -> Response:
        shown = await asyncio.to_thread(monitor.page, _runs(request))
        return Response(orjson.dumps(shown), media_type="application/json")

    async def report_html(request: Request) -> Response:
        name = "report.html" if len(_runs(request)) == 1 else "comparison.html"
        text = await asyncio.to_thread(monitor.report_html, _runs(request))
        return HTMLResponse(text, headers={"content-disposition": f'attachment; filename="{name}"'})

    async def prometheus_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(monitor.metrics), media_type=CONTENT_TYPE_LATEST)

    async def health(request: Request) -> Response:
        host = request.query_params.get("host")
        well = host is None or monitor.hears_from(host)
        return JSONResponse({"ok": well}, 200 if well else 503)

    async def tick_for_ever() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await asyncio.to_thread(monitor.tick)
            except Exception as error:
                # Without a tick no run would ever end, so one that fails must not be the last.
                print(f"monitor: {error!r}", file=sys.stderr, flush=True)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.create_task(tick_for_ever())
        yield
        ticking.cancel()

    return Starlette(
        routes=[
            Route("/report", report, methods=["POST"]),
            Route("/join", join, methods=["POST"]),
            Route("/runs/{run}/leave", leave, methods=["POST"]),
            Route("/runs/{run}/progress", progress),
            Route("/", page),
            Route("/data", data),
            Route("/report.html", report_html),
            Route("/metrics", prometheus_metrics),
            Route("/health", health),
        ],
        exception_handlers={QueueError: unknown_yet},
        lifespan=lifespan,
    )


def main(argv: list[str]) -> int:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m queuebench monitor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one (default: 8080)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the results go")
    options = parser.parse_args(argv)
    monitor = Monitor(settings_module.load(), options.results)
    return serve(application(monitor), "monitor", options.host, options.port)
