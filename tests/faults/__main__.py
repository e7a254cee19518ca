"""Do many faults to the running pipeline, at random moments from a printed seed, and keep the table.

    python -m tests.faults [--seed N] [--faults 200] [--queue REDIS,SQS] [--kind TEXT]

With the seed of an earlier run it goes on where that was stopped, and does again what broke a promise.
What was done is kept in results/faults.jsonl; docs/faults.md is the table of all that is there.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from queuebench.bench.stack import Stack
from queuebench.plumbing.printable import make_output_safe
from tests import ROOT
from tests.faults.kinds import BOTH, KINDS, Kind, Layout, sqs_client
from tests.faults.scene import SETTINGS, GatewayStack, LinedStack, Scene

RECORDS = ROOT / "results" / "faults.jsonl"
TABLE = ROOT / "docs" / "faults.md"
SCRATCH = ROOT / ".bench"
ROUND = 60  # faults: so many are sorted by what they need, so that few stacks are started


@dataclass(frozen=True)
class Fault:
    """One fault of a plan."""

    seed: int
    number: int
    queue: str
    kind: Kind


def plan(seed: int, faults: int, queues: Sequence[str], only: str = "") -> list[Fault]:
    """Return at least so many faults, each kind on each queue in turn."""
    chance = random.Random(seed)
    pairs = [(kind, queue) for kind in KINDS if only in kind.name for queue in kind.queues if queue in queues]
    planned: list[Fault] = []
    done = 0
    while pairs and done < faults:
        chance.shuffle(pairs)
        for kind, queue in pairs:
            if done < faults:
                planned.append(Fault(seed, len(planned), queue, kind))
                done += kind.repeats
        pairs = [(kind, queue) for kind, queue in pairs if not kind.rare]
    return planned


@contextmanager
def stack_of(folder: Path, queue: str, layout: Layout) -> Iterator[Stack]:
    """Run a stack as a kind of fault needs it."""
    kind = LinedStack if layout.lined else GatewayStack if layout.gateway else Stack
    made = kind(
        folder,
        queue,
        subscribers=layout.subscribers,
        workers=layout.workers,
        settings=SETTINGS | dict(layout.settings),
        sqs_options=["--latency", "2"],
        appendfsync=layout.appendfsync,
        app=layout.app,
    )
    with made as stack:
        if layout.visibility_seconds and queue == "SQS":
            sqs = sqs_client(stack.environment["AWS_ENDPOINT_URL_SQS"])
            sqs.set_queue_attributes(
                QueueUrl=sqs.get_queue_url(QueueName="phone_numbers")["QueueUrl"],
                Attributes={"VisibilityTimeout": str(layout.visibility_seconds)},
            )
            for name, service in stack.services.items():
                if name.startswith("subscriber"):
                    service.stop()
                    service.start()
        yield stack


def inflict(fault: Fault, stack: Stack, messages: int = 3000) -> dict[str, Any]:
    """Do one fault and return its record; `flaws` says which promises were broken."""
    scene = Scene(stack, random.Random(f"{fault.seed}/{fault.number}"), messages)
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
        summary = scene.finish()
        counts, run = summary["counts"], summary["run_id"]
        tally = scene.tally(run)
        missing = scene.missing(run)
        record |= {
            "run": run,
            "published": counts["published"],
            "lost": len(missing),
            "duplicated": tally["duplicates"],
            "dead_lettered": len(scene.dead_letters()),
        }
        if missing and not fault.kind.loses:
            flaws.append(f"lost: {missing.to_json()}")
        if counts["lost"] != len(missing):
            flaws.append(f"the summary says {counts['lost']} lost")
        if tally["duplicates"] > bound:
            flaws.append(f"{tally['duplicates']} duplicated, more than the {bound} that were in flight")
        if any("not finish" in reason for reason in summary["reasons"]):
            flaws.append("the run did not finish")
        if fault.kind.refuses:
            scene.forget_dead_letters()
        elif scene.dead_letters():
            flaws.append(f"dead letters: {[letter.reason for letter in scene.dead_letters()[:3]]}")
        # A run is not valid, and 1 the publisher's end, where the endpoint was late or memory full.
        if scene.publishers[-1].exit_code() not in (0, 1):
            flaws.append(f"the publisher ended with {scene.publishers[-1].exit_code()}")
        if len(scene.publishers) == 1 and counts["published"] < scene.messages:
            flaws.append(f"only {counts['published']} were accepted")
    except (AssertionError, TimeoutError) as error:
        flaws.append(f"{type(error).__name__}: {error}")
    finally:
        if gone := scene.gone():
            flaws.append(f"not running any more: {', '.join(gone)}")
        if outcries := scene.outcries():
            flaws.append(f"an unforeseen error in {', '.join(outcries)}")
        scene.close()
    if fault.kind.dead_letters and "dead_lettered" in record:
        record["dead_lettered"] = fault.kind.dead_letters
    return record | {
        "seconds": round(time.monotonic() - began, 1),
        "story": scene.story,
        "flaws": flaws,
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return the README's table, a row for each kind of fault."""
    names = [kind.name for kind in KINDS]
    lines = [
        "| fault | runs with Redis | with SQS | lost | duplicated | in flight, at most | dead-lettered |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    ordered = sorted(records, key=lambda r: names.index(r["kind"]))
    for kind, group in groupby(ordered, key=lambda r: r["kind"]):
        rows = list(group)
        runs = [sum(row["queue"] == queue for row in rows) for queue in BOTH]
        times = f" × {rows[0]['repeats']}" if rows[0]["repeats"] > 1 else ""
        cells = [f"{number}{times}" if number else "–" for number in runs]
        cells += [
            f"{sum(row.get(key, 0) for row in rows):,}"
            for key in ("lost", "duplicated", "bound", "dead_lettered")
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    faults = sum(record["repeats"] for record in records)
    messages = sum(record.get("published", 0) for record in records)
    seeds = ", ".join(str(seed) for seed in sorted({record["seed"] for record in records}))
    broken = sum(bool(record["flaws"]) for record in records)
    head = (
        f"{faults:,} faults in {len(records):,} runs of {messages:,} messages, both queues, seed {seeds}; "
        f"{broken} runs broke a promise.\n"
        "*In flight, at most*: what the failed process held, which is what may come twice. A `kill -9` "
        "leaves what Redis has written to the operating system; only where that dies too does "
        "`everysec` lose the last second.\n"
    )
    return head + "\n" + "\n".join(lines) + "\n"


def known() -> dict[Fault, dict[str, Any]]:
    """Return the newest record of each fault done so far."""
    lines = RECORDS.read_bytes().splitlines() if RECORDS.exists() else []
    kinds = {kind.name: kind for kind in KINDS}
    return {
        Fault(record["seed"], record["number"], record["queue"], kinds[record["kind"]]): record
        for record in map(orjson.loads, lines)
        if record["kind"] in kinds
    }


def keep(record: dict[str, Any]) -> None:
    """Append a record, and write the table anew."""
    RECORDS.parent.mkdir(exist_ok=True)
    with RECORDS.open("ab") as records:
        records.write(orjson.dumps(record) + b"\n")
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table(list(known().values())))


def run(faults: Sequence[Fault]) -> int:
    """Do what is planned, with as few stacks as possible; return how many broke a promise."""
    broken = done = 0
    for first in range(0, len(faults), ROUND):
        some = sorted(faults[first : first + ROUND], key=lambda f: (f.queue, repr(f.kind.layout), f.number))
        for (queue, _), same in groupby(some, key=lambda f: (f.queue, repr(f.kind.layout))):
            left = list(same)
            while left:
                used = 0
                SCRATCH.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=SCRATCH, ignore_cleanup_errors=True) as folder:
                    with stack_of(Path(folder), queue, left[0].kind.layout) as stack:
                        for fault in left:
                            record = inflict(fault, stack)
                            keep(record)
                            used += 1
                            done += 1
                            print(line_of(record, done, len(faults)), flush=True)
                            if record["flaws"]:
                                broken += 1
                                break
                    if record["flaws"]:
                        kept = SCRATCH / f"fault-{fault.seed}-{fault.number}"
                        shutil.copytree(folder, kept, dirs_exist_ok=True)
                        print(f"  the logs are in {kept}", flush=True)
                left = left[used:]
    return broken


def line_of(record: dict[str, Any], done: int, planned: int) -> str:
    """Return a record as text."""
    text = (
        f"{done}/{planned} (seed {record['seed']}, fault {record['number']}) "
        f"{record['queue']}: {record['kind']}: "
        f"lost {record.get('lost', '?')}, duplicated {record.get('duplicated', '?')} "
        f"(at most {record.get('bound', '?')}), {record['seconds']} s"
    )
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
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--queue", default=",".join(BOTH))
    parser.add_argument("--kind", default="", help="only those whose name has this in it")
    options = parser.parse_args()
    planned = plan(options.seed, options.faults, options.queue.upper().split(","), options.kind)
    print(f"faults: seed {options.seed}; {len(planned)} runs", flush=True)
    kept = {fault for fault, record in known().items() if not record["flaws"]}
    planned = [fault for fault in planned if fault not in kept]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        broken = run(planned)
    except KeyboardInterrupt:
        print(f"faults: stopped; `--seed {options.seed}` goes on", file=sys.stderr)
        return 130
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
