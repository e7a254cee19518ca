"""The table of what was done and what came of it: this project beside plain Celery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from tests import ROOT
from tests.faults.kind import BOTH, Kind
from tests.faults.kinds import KINDS
from tests.faults.stacks import SLOTS
from tests.faults.stock import MOST_MEMORY, UNTIL_SECONDS, WAIT_SECONDS
from tests.faults.stock_app import TRIES, VISIBILITY_SECONDS

RECORDS = ROOT / "results" / "faults.jsonl"
STOCK_RECORDS = ROOT / "results" / "faults-stock.jsonl"
TABLE = ROOT / "docs" / "faults.md"

Record = dict[str, Any]
_HEAD = (
    "| fault | runs (Redis + SQS) | lost | repeated | in flight, at most | dead letters | standstill, s "
    "| plain Celery: runs | lost | repeated | dead letters | not back in 90 s | standstill, s |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)

_WORDS = (Path(__file__).parent / "words.md").read_text()


def read(path: Path) -> list[Record]:
    """Return what is kept of runs whose kind there is, oldest first."""
    names = {kind.name for kind in KINDS}
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [record for record in map(orjson.loads, lines) if record["kind"] in names]


def key_of(record: Record) -> tuple[Any, ...]:
    """Return what names a fault of a plan."""
    return record["seed"], record["number"], record["queue"], record["kind"]


def newest(records: Iterable[Record]) -> list[Record]:
    """Return the last record of each fault: one that broke a promise is done again when that is mended."""
    return list({key_of(record): record for record in records}.values())


def page(ours: Sequence[Record], stock: Sequence[Record]) -> str:
    """Return docs/faults.md, made of the records of either."""
    rows = [_HEAD]
    last, plain = newest(ours), newest(stock)
    for kind in KINDS:
        row = _ours([record for record in last if record["kind"] == kind.name])
        row += _plain(kind, [record for record in plain if record["kind"] == kind.name])
        rows.append(f"| {kind.name} | " + " | ".join(row) + " |")
    return "\n".join(["# Faults", "", *_words(ours, last, plain), "", *rows, ""])


def _ours(records: Sequence[Record]) -> list[str]:
    if not records:
        return [""] * 6
    runs = [str(sum(record["queue"] == queue for record in records)) for queue in BOTH]
    times = f" × {records[0]['repeats']}" if records[0]["repeats"] > 1 else ""
    return [
        " + ".join(runs) + times,
        *(_sum(records, name) for name in ("lost", "duplicated", "bound", "dead_lettered")),
        _longest(records),
    ]


def _plain(kind: Kind, records: Sequence[Record]) -> list[str]:
    if not records:
        return ["" if kind.has_stock else "–"] * 6
    times = f" × {records[0]['repeats']}" if records[0]["repeats"] > 1 else ""
    back = _sum(records, "waiting")
    ended = sum(len(record.get("ended", [])) for record in records)
    stood = sum(bool(record.get("hangs")) for record in records)
    notes = [f"{stood} × over {UNTIL_SECONDS:g} s at a step"] * bool(stood) + [
        f"{ended} × the worker ended"
    ] * bool(ended)
    return [
        f"{len(records)}{times}",
        *(_sum(records, name) for name in ("lost", "duplicated", "dead_lettered")),
        f"{back} ({', '.join(notes)})" if notes else back,
        f"> {WAIT_SECONDS:g}" if back != "0" else _longest(records),
    ]


def _sum(records: Sequence[Record], name: str) -> str:
    return f"{sum(record.get(name, 0) for record in records):,}"


def _longest(records: Sequence[Record]) -> str:
    known = [record["recovery"] for record in records if record.get("recovery") is not None]
    return f"{max(known):.1f}" if known else "–"


def _words(ours: Sequence[Record], last: Sequence[Record], plain: Sequence[Record]) -> list[str]:
    faults = {queue: sum(record["repeats"] for record in last if record["queue"] == queue) for queue in BOTH}
    broken = {key_of(record) for record in last if record["flaws"]}
    forgetful = {kind.name for kind in KINDS if kind.loses}
    values = {
        "faults": sum(faults.values()),
        "redis": faults["REDIS"],
        "sqs": faults["SQS"],
        "runs": len(last),
        "messages": _sum(last, "published"),
        "lost": _sum(last, "lost"),
        "lost_with_server": _sum([record for record in last if record["kind"] in forgetful], "lost"),
        "broken": len(broken),
        "mended": len({key_of(record) for record in ours if record["flaws"]} - broken),
        "plain_faults": sum(record["repeats"] for record in plain),
        "plain_runs": len(plain),
        "plain_messages": _sum(plain, "published"),
        "plain_lost": _sum(plain, "lost"),
        "plain_repeated": _sum(plain, "duplicated"),
        "plain_dead": _sum(plain, "dead_lettered"),
        "plain_waiting": _sum(plain, "waiting"),
        "seeds": ", ".join(str(seed) for seed in sorted({record["seed"] for record in [*last, *plain]})),
        "wait": f"{WAIT_SECONDS:g}",
        "slots": SLOTS,
        "visibility": VISIBILITY_SECONDS,
        "tries": TRIES,
        "memory": f"{MOST_MEMORY / 2**30:g}",
    }
    return [_WORDS.format(**values).rstrip()]
