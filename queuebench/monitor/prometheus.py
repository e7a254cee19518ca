"""The newest run's figures in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from queuebench.figures.records import Summary
from queuebench.measuring.series import Point

QUANTILES = {"p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99", "p999": "0.999"}
PREFIX = "queuebench_"


class _Run(Collector):
    """One run: its summary as it stands, and the newest point of its series."""

    def __init__(self, summary: Summary | None, point: Point | None) -> None:
        self._summary, self._point = summary, point

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; only `run_open` where there was no run yet."""
        summary = self._summary
        is_open = summary is not None and summary.ended is None
        yield GaugeMetricFamily(PREFIX + "run_open", "1 while a run is open", value=float(is_open))
        if summary is None:
            return
        queue = str(summary.label)
        info = GaugeMetricFamily(PREFIX + "run", "The newest run", labels=["queue", "run_id"])
        info.add_metric([queue, str(summary.run_id)], 1.0)
        yield info
        valid = GaugeMetricFamily(PREFIX + "run_valid", "1: no reason against the run", labels=["queue"])
        valid.add_metric([queue], float(summary.valid))
        yield valid
        messages = CounterMetricFamily(PREFIX + "messages", "Of the newest run", labels=["queue", "state"])
        for state, count in msgspec.structs.asdict(summary.counts).items():
            messages.add_metric([queue, state], count)
        yield messages
        latency = GaugeMetricFamily(
            PREFIX + "latency_seconds", "Of the newest run so far", labels=["queue", "stage", "quantile"]
        )
        for stage, figures in summary.latency_ms.items():
            for name, quantile in QUANTILES.items():
                if figures.count:
                    latency.add_metric([queue, stage, quantile], getattr(figures, name) / 1000.0)
        yield latency
        yield from self._roles(summary, queue)
        yield from self._servers(summary, queue)
        if summary.sqs is not None:
            calls = CounterMetricFamily(
                PREFIX + "sqs_requests", "As AWS bills them", labels=["queue", "action"]
            )
            for action, count in summary.sqs.requests.items():
                calls.add_metric([queue, action], count)
            yield calls

    def _roles(self, summary: Summary, queue: str) -> Iterator[Metric]:
        labels = ["queue", "role"]
        cpu = CounterMetricFamily(PREFIX + "cpu_seconds", "Spent on the run, start-up apart", labels=labels)
        memory = GaugeMetricFamily(
            PREFIX + "max_rss_bytes", "The largest process's peak memory", labels=labels
        )
        processes = GaugeMetricFamily(PREFIX + "processes", "That take part", labels=labels)
        for role, used in summary.resources.items():
            cpu.add_metric([queue, role], used.cpu_seconds)
            memory.add_metric([queue, role], used.max_rss_mib * 2**20)
            processes.add_metric([queue, role], used.processes)
        yield from (cpu, memory, processes)

    def _servers(self, summary: Summary, queue: str) -> Iterator[Metric]:
        labels = ["queue", "server"]
        cpu = CounterMetricFamily(PREFIX + "server_cpu_seconds", "Of a Redis during the run", labels=labels)
        peak = GaugeMetricFamily(PREFIX + "server_peak_memory_bytes", "Of a Redis", labels=labels)
        for name, server in summary.servers.items():
            cpu.add_metric([queue, name], server.cpu_seconds)
            peak.add_metric([queue, name], server.peak_memory_mib * 2**20)
        yield from (cpu, peak)
        if self._point is None:
            return
        depth = GaugeMetricFamily(
            PREFIX + "backlog_messages", "What waits or is in flight", labels=["queue", "place", "state"]
        )
        for place in ("queue", "celery"):
            held = self._point.queue if place == "queue" else self._point.celery
            if held is not None:
                depth.add_metric([queue, place, "waiting"], held.waiting)
                depth.add_metric([queue, place, "in_flight"], held.in_flight)
        yield depth


def exposition(summary: Summary | None, point: Point | None) -> bytes:
    """Return the text that a Prometheus server scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Run(summary, point))
    return generate_latest(registry)
