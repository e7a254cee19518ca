"""What a publisher does: join a run, load the queue, leave, and follow the run where asked."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from queuebench import prices
from queuebench import settings as settings_module
from queuebench.broker.own_keys import refuse_shared
from queuebench.errors import SettingsError, TryLater
from queuebench.figures import comparison, requirement
from queuebench.figures.records import Summary, to_summary
from queuebench.figures.requirement import Requirement
from queuebench.load import bodies, pacing
from queuebench.measuring.client import MonitorClient, MonitorError
from queuebench.measuring.records import Stage
from queuebench.measuring.telemetry import Telemetry
from queuebench.pipeline.flood import Flood, Outcome
from queuebench.plumbing.outage import GIVE_UP_SECONDS, Outage, persist
from queuebench.queues import open_queue
from queuebench.report import progress, words
from queuebench.settings import Settings

BATCHES_PER_BURST = 10**9
# Numbers of a publisher that ends when its time is over: more than it can send in a month.
OPEN_ENDED = 10**11


def main(argv: list[str]) -> int:
    """Publish, and follow the run to its end where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="publisher", description="Put messages into the queue that QUEUE names."
    )
    parser.add_argument(
        "messages", nargs="?", help="how many, or a list of runs: 100,1000 (default: MESSAGES)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="follow the run to its end; exit with its verdict"
    )
    requirement.add_option(parser, "with --wait: what the run must meet: 'end_to_end.p99 < 5 s' 'lost = 0'")
    options = parser.parse_intermixed_args(argv)
    requirements = [requirement.parse(text) for text in options.require]
    if requirements and not options.wait:
        raise SettingsError("--require needs --wait: only a run that is followed to its end has figures")
    try:
        chosen = settings_module.load()
        if options.messages:
            chosen = replace(chosen, messages=settings_module.bursts(options.messages))
        return Publication(chosen, options.wait, requirements).run()
    except KeyboardInterrupt:
        print("publisher: stopped", file=sys.stderr)
        return 130


class Publication:
    """One publisher process: one or more runs."""

    def __init__(self, settings: Settings, wait: bool, requirements: Sequence[Requirement] = ()) -> None:
        self._settings, self._wait = settings, wait
        self._requirements, self._summaries = requirements, list[Summary]()
        self._pacing = pacing.of_settings(settings)
        # None: as many as come until its time is over.
        self._bursts: Sequence[int | None] = settings.messages or (None,)
        if not settings.monitor_url and (wait or len(self._bursts) > 1):
            raise SettingsError(
                "--wait and a list of runs need a monitor: set MONITOR_URL, or start one with "
                "`python -m queuebench monitor` and set MONITOR_URL=http://127.0.0.1:8080"
            )
        self._queue = open_queue(settings.queue, settings.options())
        self._telemetry = Telemetry("publisher", settings.monitor_url, requests_made=self._queue.requests)
        self._monitor = MonitorClient(settings.monitor_url) if settings.monitor_url else None
        self._flood: Flood | None = None
        self._outage = Outage("publisher", f"the queue ({settings.queue_label})")
        self._stopped = False

    def run(self) -> int:
        """Publish every burst; return 0, 1 where messages were refused or lost, 130 where stopped.

        Raises:
            QueueBenchError: the queue cannot be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        persist(self._outage, "start", self._check_queue, GIVE_UP_SECONDS, TryLater)
        self._bodies = bodies.of_settings(self._settings, self._queue.refuses)
        self._say_what_it_costs()
        if self._pacing.faster != 1.0:
            print(f"publisher: {words.squeezed(self._pacing.faster)}", flush=True)
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

    def _check_queue(self) -> None:
        refuse_shared(self._settings)
        self._queue.try_rights("send")
        self._queue.check()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        if self._flood is not None:
            self._flood.stopping.set()
        else:
            raise KeyboardInterrupt

    def _burst(self, burst: int, messages: int | None, last: bool) -> int:
        expected = self._pacing.expected
        if messages is not None:
            expected = messages if expected is None else min(messages, expected)
        run, first = self._join(burst, expected, messages)
        self._flood = Flood(
            self._queue,
            run,
            first,
            OPEN_ENDED if messages is None else messages,
            self._pacing.schedule(),
            self._bodies,
            self._telemetry,
            self._outage,
            burst * BATCHES_PER_BURST,
            warm_up=self._settings.warm_up,
            one_by_one=bool(self._settings.publisher_delay),
            tenants=self._settings.tenants,
        )
        began = time.perf_counter()
        with progress.Counter(f"publishing to {self._settings.queue_label}", expected or 0) as counter:
            outcome = self._flood.run(counter.show)
        seconds = time.perf_counter() - began
        self._flood = None
        meant = outcome.sent
        if messages is not None and not self._pacing.ends:
            meant = messages - outcome.unnumbered
        self._say(run, outcome, meant, seconds)
        verdict = 1 if outcome.failure else 0
        if self._monitor is not None:
            self._leave(run, burst, meant)
        if self._stopped:
            return 130
        if self._monitor is None or (last and not self._wait):
            return verdict
        return max(verdict, self._follow(run, last))

    def _say(self, run: str, outcome: Outcome, meant: int, seconds: float) -> None:
        rate = outcome.accepted / seconds if seconds else 0.0
        parts = [
            f"publisher: {self._settings.queue_label} accepted {outcome.accepted:,} of {meant:,} messages "
            f"in {seconds:.2f} s ({rate:,.0f}/s)"
        ]
        if self._pacing.rate:
            lateness = self._telemetry.latency(run, Stage.PUBLISH_LATENESS).quantile(0.99)
            parts[0] += f" of {self._pacing.rate:,.1f}/s asked of each publisher"
            parts.append(f"lateness p99 {lateness:,.1f} ms")
            if outcome.behind:
                parts.append(f"{outcome.behind:,} more were due and not sent")
        if outcome.unnumbered:
            parts.append(f"{outcome.unnumbered:,} more were no JSON objects, and sent as they are")
        if outcome.failure:
            parts.append(outcome.failure)
        print("; ".join(parts), flush=True)

    def _join(self, burst: int, expected: int | None, most: int | None) -> tuple[str, int]:
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._settings.queue.lower()}-{uuid.uuid4().hex[:4]}"
        if self._monitor is None:
            return run, 0
        try:
            joined = self._monitor.join(
                self._telemetry.process,
                burst,
                expected or 0,
                self._settings.public(),
                most=OPEN_ENDED if most is None else most,
                per_second=self._pacing.rate,
                longest_pause=self._pacing.longest_pause,
                faster=self._pacing.faster,
            )
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

    def _leave(self, run: str, burst: int, meant: int) -> None:
        assert self._monitor is not None
        accepted = self._telemetry.accepted_so_far(run)
        try:
            self._monitor.leave(run, self._telemetry.process, burst, accepted, meant)
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
        expected = self._pacing.expected
        bounds = [[each for each in (messages, expected) if each is not None] for messages in self._bursts]
        known = all(bounds)
        messages = sum(map(min, bounds)) if known else 1_000_000
        # A send, a receive and a delete for ten messages, or for each where they come one by one.
        paced = bool(settings.publisher_delay or self._pacing.rate)
        size = settings.message_bytes + bodies.ADDED_BYTES
        a_call = 1 if paced else max(1, min(self._queue.batch_size, self._queue.batch_bytes // size))
        requests = messages * (2 * prices.sqs_billed_requests(a_call * size) + 1) / a_call
        usd = requests * prices.sqs_usd_per_request(settings.queue_name)
        print(
            f"publisher: {'' if known else 'each '}{messages:,} messages through AWS SQS are "
            f"{'up to' if paced else 'about'} {requests:,.0f} requests, "
            f"${usd:,.2f} (us-east-1, without the free tier)",
            flush=True,
        )
