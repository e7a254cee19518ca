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
    cpu_seconds = _number(info, "used_cpu_user") + _number(info, "used_cpu_sys")
    evicted, refused = _number(info, "evicted_keys"), _refused_for_memory(info)
    used_memory, own_peak = int(_number(info, "used_memory")), int(_number(info, "used_memory_peak"))
    run_id = str(info.get("run_id", ""))
    counters = {"cpu_seconds": cpu_seconds, "evicted_keys": evicted, "refused_for_memory": refused}
    restarted = before is not None and before.run_id != run_id
    # A server that was restarted counts from 0 again.
    counted = {} if restarted else counters if before is None else before.counters

    def total(name: str, so_far: float) -> float:
        # CONFIG RESETSTAT lets a counter begin again too.
        since = counters[name] - counted.get(name, 0)
        return so_far + (since if since >= 0 else counters[name])

    spent = total("cpu_seconds", 0.0)
    worked = max(0.0, now - before.at) if before and moved else 0.0
    version = info.get("valkey_version") or info.get("redis_version")
    peak_before = own_peak if before is None else 0 if restarted else before.peak_before
    return ServerRecord(
        version=None if version is None else str(version),
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
        busy_seconds=(before.busy_seconds if before else 0.0) + worked,
        busy_cpu_seconds=(before.busy_cpu_seconds if before else 0.0) + (spent if worked else 0.0),
        # The server's own peak knows what came and went between two looks.
        peak_memory=max(
            before.peak_memory if before else 0, used_memory, own_peak if own_peak > peak_before else 0
        ),
        peak_before=peak_before,
    )


def _refused_for_memory(info: Mapping[str, Any]) -> int:
    refused = info.get("errorstat_OOM")
    return int(_number(refused, "count")) if isinstance(refused, Mapping) else 0


def _number(info: Mapping[str, Any], name: str) -> float:
    """Return one of the numbers, 0 where what the server tells is none."""
    found = info.get(name)
    return float(min(max(found, 0), 10**15)) if isinstance(found, int | float) and found == found else 0.0
