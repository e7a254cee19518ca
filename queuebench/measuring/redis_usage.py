"""What a Redis-protocol server did during a run, from its INFO once a second; knows no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def follow(
    before: dict[str, Any] | None, info: Mapping[str, Any], config: Mapping[str, str], now: float, moved: bool
) -> dict[str, Any]:
    """Return the newest state of a server, its totals counted from the run's start and over restarts.

    Args:
        before: the state before this one; None at the run's start.
        info: what INFO answers.
        config: `appendonly` and `appendfsync`, as far as the server tells.
        now: Unix seconds.
        moved: whether the run went on since the state before.
    """
    totals = {
        "cpu_seconds": info["used_cpu_user"] + info["used_cpu_sys"],
        "evicted_keys": info["evicted_keys"],
        "refused_for_memory": int((info.get("errorstat_OOM") or {}).get("count", 0)),
    }
    restarted = before is not None and before["run_id"] != info["run_id"]
    state: dict[str, Any] = {
        "version": info.get("valkey_version") or info.get("redis_version"),
        "run_id": info["run_id"],
        "at": now,
        "used_memory": info["used_memory"],
        "restarts": (before["restarts"] if before else 0) + restarted,
        "appendonly": config.get("appendonly", "yes" if info.get("aof_enabled") else "no"),
        "appendfsync": config.get("appendfsync", ""),
        "counters": totals,
    }
    if before is None:
        state |= dict.fromkeys(totals, 0)
        state |= {"busy_seconds": 0.0, "busy_cpu_seconds": 0.0}
        state |= {"peak_memory": info["used_memory"], "peak_before": info["used_memory_peak"]}
        return state
    # A server that was restarted counts from 0 again.
    counted = dict.fromkeys(totals, 0) if restarted else before["counters"]
    for name, value in totals.items():
        state[name] = before[name] + value - counted[name]
    spent = state["cpu_seconds"] - before["cpu_seconds"]
    state["busy_seconds"] = before["busy_seconds"] + (now - before["at"] if moved else 0.0)
    state["busy_cpu_seconds"] = before["busy_cpu_seconds"] + (spent if moved else 0.0)
    # The server's own peak knows what came and went between two looks.
    state["peak_before"] = 0 if restarted else before["peak_before"]
    own_peak = info["used_memory_peak"] if info["used_memory_peak"] > state["peak_before"] else 0
    state["peak_memory"] = max(before["peak_memory"], info["used_memory"], own_peak)
    return state
