"""A run's summary for a terminal or a log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_run(summary: Mapping[str, Any]) -> str:
    """Return what was published, delivered, lost and duplicated, and how long each stage took."""
    counts, seconds, rates = summary["counts"], summary["seconds"], summary["rates"]
    label = "local SQS" if summary["local"] else summary["queue"]
    lines = [
        f"run {summary['run_id']} ({label}): "
        + ("valid" if summary["valid"] else "NOT VALID: " + "; ".join(summary["reasons"])),
        f"  published {counts['published']:,}  delivered {counts['delivered']:,}  lost {counts['lost']:,}  "
        f"duplicated {counts['duplicated']:,}  dead-lettered {counts['dead_lettered']:,}",
        f"  publish {seconds['publish']:.2f} s ({rates['publish']:,.0f}/s)  "
        f"drain {seconds['drain']:.2f} s ({rates['receive']:,.0f}/s)  total {seconds['total']:.2f} s",
    ]
    return "\n".join(lines + [f"  warning: {warning}" for warning in summary["warnings"]])
