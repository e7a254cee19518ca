"""What a publisher does: join a run, flood the queue, leave, and follow the run where asked."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from types import FrameType
from typing import Any

from queuebench import prices
from queuebench import settings as settings_module
from queuebench.errors import SettingsError
from queuebench.figures import comparison
from queuebench.figures.records import Summary, to_summary
from queuebench.figures.requirement import Requirement
from queuebench.figures.requirement import parse as requirement
from queuebench.measuring.client import MonitorClient, MonitorError
from queuebench.measuring.telemetry import Telemetry
from queuebench.pipeline.flood import Flood
from queuebench.queues import open_queue
from queuebench.report import progress
from queuebench.settings import Settings

BATCHES_PER_BURST = 10**9


def main(argv: list[str]) -> int:
    """Publish, and follow the run to its end where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="publisher", description="Flood the queue that QUEUE names with messages."
    )
    parser.add_argument(
        "messages", nargs="?", help="how many, or a list of runs: 100,1000 (default: MESSAGES)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="follow the run to its end; exit with its verdict"
    )
    parser.add_argument(
        "--require",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIGURE",
        help="with --wait: what the run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'",
    )
    options = parser.parse_intermixed_args(argv)
    requirements = [requirement(text) for text in options.require]
    if requirements and not options.wait:
        raise SettingsError("--require needs --wait: only a run that is followed to its end has figures")
    try:
        chosen = settings_module.load()
        bursts = settings_module.bursts(options.messages) if options.messages else chosen.messages
        return Publication(chosen, bursts, options.wait, requirements).run()
    except KeyboardInterrupt:
        print("publisher: stopped", file=sys.stderr)
        return 130


class Publication:
    """One publisher process: one or more runs."""

    def __init__(
        self,
        settings: Settings,
        bursts: tuple[int, ...],
        wait: bool,
        requirements: Sequence[Requirement] = (),
    ) -> None:
        self._settings, self._bursts, self._wait = settings, bursts, wait
        self._requirements, self._summaries = requirements, list[Summary]()
        if not settings.monitor_url and (wait or len(bursts) > 1):
            raise SettingsError(
                "--wait and a list of runs need a monitor: set MONITOR_URL, or start one with "
                "`python -m queuebench monitor` and set MONITOR_URL=http://127.0.0.1:8080"
            )
        self._queue = open_queue(settings.queue, settings.options())
        self._telemetry = Telemetry("publisher", settings.monitor_url, requests_made=self._queue.requests)
        self._monitor = MonitorClient(settings.monitor_url) if settings.monitor_url else None
        self._flood: Flood | None = None
        self._stopped = False

    def run(self) -> int:
        """Publish every burst; return 0, 1 where messages were refused or lost, 130 where stopped.

        Raises:
            QueueBenchError: the queue cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._queue.check()
        self._say_what_it_costs()
        self._telemetry.start()
        worst = 0
        try:
            for burst, messages in enumerate(self._bursts):
                last = burst + 1 == len(self._bursts)
                worst = max(worst, self._burst(burst, messages, last))
                if self._stopped and not last:
                    return 130
        finally:
            self._queue.close()
            self._telemetry.close()
        return worst

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        if self._flood is not None:
            self._flood.stopping.set()
        else:
            raise KeyboardInterrupt

    def _burst(self, burst: int, messages: int, last: bool) -> int:
        run, first = self._join(burst, messages)
        self._flood = Flood(
            self._queue,
            run,
            first,
            messages,
            self._settings.publisher_delay,
            self._telemetry,
            burst * BATCHES_PER_BURST,
        )
        began = time.perf_counter()
        with progress.Counter(f"publishing to {self._settings.queue_label}", messages) as counter:
            outcome = self._flood.run(counter.show)
        seconds = time.perf_counter() - began
        self._flood = None
        rate = outcome.accepted / seconds if seconds else 0.0
        print(
            f"publisher: {self._settings.queue_label} accepted {outcome.accepted:,} of {messages:,} messages "
            f"in {seconds:.2f} s ({rate:,.0f}/s)" + (f"; {outcome.failure}" if outcome.failure else ""),
            flush=True,
        )
        verdict = 1 if outcome.failure else 0
        if self._monitor is not None:
            self._leave(run, burst)
        if self._stopped:
            return 130
        if self._monitor is None or (last and not self._wait):
            return verdict
        return max(verdict, self._follow(run, last))

    def _join(self, burst: int, messages: int) -> tuple[str, int]:
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._settings.queue.lower()}-{uuid.uuid4().hex[:4]}"
        if self._monitor is None:
            return run, 0
        try:
            joined = self._monitor.join(self._telemetry.process, burst, messages, self._settings.public())
        except MonitorError as error:
            if self._wait:
                raise
            print(f"publisher: {error}; publishing without figures", file=sys.stderr, flush=True)
            self._monitor = None
            return run, 0
        waiting = sum(joined.backlog.values())
        if waiting:
            print(f"publisher: {waiting:,} messages were there before; they are shipped too", flush=True)
        return joined.run_id, joined.first

    def _leave(self, run: str, burst: int) -> None:
        assert self._monitor is not None
        accepted = self._telemetry.accepted_so_far(run)
        try:
            self._monitor.leave(run, self._telemetry.process, burst, accepted)
        except MonitorError as error:
            if self._wait:
                raise
            print(f"publisher: {error}", file=sys.stderr)

    def _follow(self, run: str, last: bool) -> int:
        assert self._monitor is not None
        summary: dict[str, Any] = {}
        try:
            with progress.RunView(self._settings.queue_label) as view:
                for state in self._monitor.follow(run):
                    view.show(state)
                    summary = state.get("summary") or {}
        except KeyboardInterrupt:
            # Another publisher may have seen the end first, and docker-compose stops the others then.
            summary = self._monitor.progress(run).get("summary") or {}
            if not summary:
                raise
        if last:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        self._summaries.append(to_summary(summary, f"run {run} of the monitor"))
        if self._wait and last:
            from queuebench.report import terminal  # with rich, which only this needs

            return terminal.show(self._summaries, requirements=self._requirements)
        return comparison.exit_code(self._summaries)

    def _say_what_it_costs(self) -> None:
        settings = self._settings
        if settings.queue != "SQS" or settings.local_sqs:
            return
        messages = sum(self._bursts)
        # A send, a receive and a delete for ten messages, or for each where they are paced.
        requests = messages * (3 if settings.publisher_delay else 0.3)
        usd = requests * prices.sqs_usd_per_request(settings.queue_name)
        print(
            f"publisher: {messages:,} messages through AWS SQS are about {requests:,.0f} requests, "
            f"${usd:,.2f} (us-east-1, without the free tier)",
            flush=True,
        )
