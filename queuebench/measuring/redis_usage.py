"""What a Redis-protocol server did during a run, from its INFO once a second; knows no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuebench.measuring.records import ServerRecord


def follow(
    before: ServerRecord | None, info: Mapping[str, Any], config: Mapping[str, str], now: float, moved: bool
) -> ServerRecord:
    """Return the newest state of a server, its totals counted from the run's start and over restarts.

    What a managed server does not tell counts as 0.

    Args:
        before: the state before this one; None at the run's start.
        info: what INFO answers.
        config: `appendonly` and `appendfsync`, as far as the server tells.
        now: Unix seconds.
        moved: whether the run went on since the state before.
    """
    cpu_seconds = float(info.get("used_cpu_user", 0.0)) + float(info.get("used_cpu_sys", 0.0))
    evicted, refused = int(info.get("evicted_keys", 0)), _refused_for_memory(info)
    used_memory, own_peak = int(info.get("used_memory", 0)), int(info.get("used_memory_peak", 0))
    run_id = str(info.get("run_id", ""))
    counters = {"cpu_seconds": cpu_seconds, "evicted_keys": evicted, "refused_for_memory": refused}
    restarted = before is not None and before.run_id != run_id
    # A server that was restarted counts from 0 again.
    counted = {} if restarted else counters if before is None else before.counters

    def total(name: str, so_far: float) -> float:
        return so_far + counters[name] - counted.get(name, 0)

    spent = total("cpu_seconds", 0.0)
    worked = now - before.at if before and moved else 0.0
    peak_before = own_peak if before is None else 0 if restarted else before.peak_before
    return ServerRecord(
        version=info.get("valkey_version") or info.get("redis_version"),
        run_id=run_id,
        at=now,
        used_memory=used_memory,
        restarts=(before.restarts if before else 0) + restarted,
        appendonly=config.get("appendonly", "yes" if info.get("aof_enabled") else "no"),
        appendfsync=config.get("appendfsync", ""),
        counters=counters,
        cpu_seconds=total("cpu_seconds", before.cpu_seconds if before else 0.0),
        evicted_keys=int(total("evicted_keys", before.evicted_keys if before else 0)),
        refused_for_memory=int(total("refused_for_memory", before.refused_for_memory if before else 0)),
        busy_seconds=(before.busy_seconds if before else 0.0)
        + (now - before.at if before and moved else 0.0),
        busy_cpu_seconds=(before.busy_cpu_seconds if before else 0.0) + (spent if worked else 0.0),
        # The server's own peak knows what came and went between two looks.
        peak_memory=max(
            before.peak_memory if before else 0, used_memory, own_peak if own_peak > peak_before else 0
        ),
        peak_before=peak_before,
    )


def _refused_for_memory(info: Mapping[str, Any]) -> int:
    refused = info.get("errorstat_OOM")
    return int(refused.get("count", 0)) if isinstance(refused, Mapping) else 0
