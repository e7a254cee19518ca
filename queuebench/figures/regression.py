"""Whether runs became worse than a baseline: a gate for somebody's continuous integration."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from queuebench.figures.records import Summary
from queuebench.figures.requirement import figure
from queuebench.measuring.records import Role, Stage

# Figures of which more is worse, and those of which less is.
MORE_IS_WORSE = (
    ("counts", "lost"),
    ("counts", "duplicated"),
    ("counts", "dead_lettered"),
    ("seconds", "total"),
    *(("latency_ms", stage.value, quantile) for stage in Stage for quantile in ("p50", "p99")),
    *(("resources", role.value, "cpu_us_per_message") for role in Role),
    *(("resources", role.value, "max_rss_mib") for role in Role),
    ("cost", "queue_usd_per_million"),
)
LESS_IS_WORSE = tuple(("rates", name) for name in ("publish", "receive", "hand_over", "push"))


class Change(NamedTuple):
    """How a figure changed: the medians, and by which share it is worse (below 0: better)."""

    path: tuple[str, ...]
    before: float
    after: float
    worse_share: float
    beyond_spread: bool


def changes(baseline: Sequence[Summary], runs: Sequence[Summary]) -> list[Change]:
    """Return how each figure that both sides know differs between them.

    A figure is beyond its spread where even the best run is worse than the worst of the baseline; of one run
    on either side nothing is known of the spread, and any difference is beyond it.
    """
    before = [msgspec.to_builtins(run, str_keys=True) for run in baseline]
    after = [msgspec.to_builtins(run, str_keys=True) for run in runs]
    found = []
    for sign, paths in ((1.0, MORE_IS_WORSE), (-1.0, LESS_IS_WORSE)):
        for path in paths:
            old = [value for tree in before if (value := figure(tree, path)) is not None]
            new = [value for tree in after if (value := figure(tree, path)) is not None]
            if not old or not new:
                continue
            first, last = statistics.median(old), statistics.median(new)
            share = _share(first, last) * sign
            apart = min(value * sign for value in new) > max(value * sign for value in old)
            found.append(Change(path, first, last, share, apart))
    return found


def worse(baseline: Sequence[Summary], runs: Sequence[Summary], share: float) -> list[Change]:
    """Return the figures that are worse by more than a share of the baseline, beyond their spread."""
    return [
        change for change in changes(baseline, runs) if change.worse_share > share and change.beyond_spread
    ]


def _share(before: float, after: float) -> float:
    if before:
        return (after - before) / abs(before)
    return 0.0 if after == before else float("inf") if after > before else float("-inf")
