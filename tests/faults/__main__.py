"""Do many faults to the running pipeline, at random moments from a printed seed, and keep the table.

    python -m tests.faults [--seed N] [--faults 300] [--queue REDIS,SQS] [--kind TEXT] [--minutes M]
    python -m tests.faults --stock …    does the same to plain Celery on kombu's Redis transport
    python -m tests.faults --table      writes docs/faults.md, the table of all that was done

With the seed of an earlier run it goes on where that was stopped, and does again what broke a promise.
What was done is kept in results/faults.jsonl and faults-stock.jsonl, a line as each fault has been done; so
several may run at the same time.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from queuebench.plumbing.printable import make_output_safe
from tests import ROOT
from tests.faults.kind import BOTH, Kind
from tests.faults.kinds import KINDS
from tests.faults.scene import Scene
from tests.faults.stacks import FaultStack
from tests.faults.stock import StockScene, StockStack
from tests.faults.table import RECORDS, STOCK_RECORDS, TABLE, key_of, newest, page, read

SCRATCH = ROOT / ".bench"
ROUND = 60  # faults: so many are sorted by what they need, so that few stacks are started


@dataclass(frozen=True)
class Fault:
    """One fault of a plan."""

    seed: int
    number: int
    queue: str
    kind: Kind

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what its record is known by."""
        return self.seed, self.number, self.queue, self.kind.name


def plan(seed: int, faults: int, queues: Sequence[str], only: str = "", stock: bool = False) -> list[Fault]:
    """Return at least so many faults: each kind on each queue once, and then in turn."""
    chance = random.Random(seed)
    pairs = [
        (kind, queue)
        for kind in KINDS
        if only in kind.name and (kind.has_stock or not stock)
        for queue in kind.queues
        if queue in queues
    ]
    planned: list[Fault] = []
    done = 0
    first = True
    while pairs and (first or done < faults):
        chance.shuffle(pairs)
        for kind, queue in pairs:
            if first or done < faults:
                planned.append(Fault(seed, len(planned), queue, kind))
                done += kind.repeats
        pairs = [(kind, queue) for kind, queue in pairs if not kind.rare]
        first = False
    return planned


def inflict(fault: Fault, stack: FaultStack, messages: int = 1500) -> dict[str, Any]:
    """Do one fault and return its record; `flaws` says which promises were broken."""
    of = StockScene if isinstance(stack, StockStack) else Scene
    scene = of(stack, random.Random(f"{fault.seed}/{fault.number}"), messages)
    began = time.monotonic()
    flaws: list[str] = []
    record: dict[str, Any] = {
        "seed": fault.seed,
        "number": fault.number,
        "queue": fault.queue,
        "kind": fault.kind.name,
        "repeats": fault.kind.repeats,
        "at": time.time(),
    }
    try:
        record["bound"] = bound = fault.kind.act(scene)
        scene.finish()
        outcome, flaws = scene.outcome(fault.kind, bound)
        record |= outcome
    except Exception as error:
        flaws.append(f"{type(error).__name__}: {error}")
    finally:
        flaws += scene.damage()
        recovery = scene.recovery()
        scene.close()
    return record | {
        "recovery": None if recovery is None else round(recovery, 1),
        "seconds": round(time.monotonic() - began, 1),
        "story": scene.story,
        "flaws": flaws,
    }


def keep(record: dict[str, Any], records: Path) -> None:
    """Append a record."""
    records.parent.mkdir(exist_ok=True)
    with records.open("ab") as file:
        file.write(orjson.dumps(record) + b"\n")


def run(faults: Sequence[Fault], records: Path, stock: bool, until: float) -> int:
    """Do what is planned, with as few stacks as possible; return how many broke a promise."""
    broken = done = 0
    for first in range(0, len(faults), ROUND):
        some = sorted(faults[first : first + ROUND], key=lambda f: (f.queue, repr(f.kind.layout), f.number))
        for (queue, _), same in groupby(some, key=lambda f: (f.queue, repr(f.kind.layout))):
            left = list(same)
            while left and time.monotonic() < until:
                used = 0
                record: dict[str, Any] = {}
                SCRATCH.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=SCRATCH, ignore_cleanup_errors=True) as folder:
                    kind = StockStack if stock else FaultStack
                    with kind(Path(folder), queue, left[0].kind.layout) as stack:
                        for fault in left:
                            if time.monotonic() >= until:
                                break
                            record = inflict(fault, stack)
                            keep(record, records)
                            used += 1
                            done += 1
                            print(line_of(record, done, len(faults)), flush=True)
                            broken += bool(record["flaws"])
                            if is_spent(record):
                                break
                    if record.get("flaws"):
                        kept = SCRATCH / f"fault-{fault.seed}-{fault.number}-{queue}{'-stock' * stock}"
                        shutil.copytree(folder, kept, dirs_exist_ok=True)
                        print(f"  the logs are in {kept}", flush=True)
                left = left[used:]
    return broken


def is_spent(record: dict[str, Any]) -> bool:
    """Tell whether a stack is no place for another fault."""
    return any(record.get(name) for name in ("flaws", "waiting", "hangs", "ended"))


def line_of(record: dict[str, Any], done: int, planned: int) -> str:
    """Return a record as text."""
    text = (
        f"{done}/{planned} (seed {record['seed']}, fault {record['number']}) "
        f"{record['queue']}: {record['kind']}: "
        f"lost {record.get('lost', '?')}, duplicated {record.get('duplicated', '?')} "
        f"(at most {record.get('bound', '?')}), standstill {record['recovery']} s, {record['seconds']} s"
    )
    if "waiting" in record:
        text += f"; not back {record['waiting']}; {'; '.join([*record['ended'], *record['hangs']])}"
    if record["flaws"]:
        text += "\n  BROKEN: " + "; ".join(record["flaws"]) + "\n  " + "\n  ".join(record["story"])
    return text


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Return 0 where every promise was kept."""
    make_output_safe()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--queue", default=",".join(BOTH))
    parser.add_argument("--kind", default="", help="only those whose name has this in it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no fault after so many")
    parser.add_argument("--stock", action="store_true", help="do it to plain Celery")
    parser.add_argument("--table", action="store_true", help="write docs/faults.md of what was done, no more")
    options = parser.parse_args()
    if options.table:
        TABLE.write_text(page(read(RECORDS), read(STOCK_RECORDS)))
        print(f"faults: {TABLE.relative_to(ROOT)} is written")
        return 0
    queues = ["REDIS"] if options.stock else options.queue.upper().split(",")
    records = STOCK_RECORDS if options.stock else RECORDS
    planned = plan(options.seed, options.faults, queues, options.kind, options.stock)
    print(f"faults: seed {options.seed}; {len(planned)} runs", flush=True)
    kept = {key_of(record) for record in newest(read(records)) if not record["flaws"]}
    planned = [fault for fault in planned if fault.key not in kept]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        broken = run(planned, records, options.stock, time.monotonic() + options.minutes * 60)
    except KeyboardInterrupt:
        print(f"faults: stopped; `--seed {options.seed}` goes on", file=sys.stderr)
        return 130
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
