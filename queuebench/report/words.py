"""Words for figures, all of them: durations, amounts, verdicts, reasons, bottlenecks, plans, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from queuebench import prices
from queuebench.figures import findings, requirement
from queuebench.figures.comparison import Group, Trait
from queuebench.figures.findings import Flaw, Place, Remark, Server
from queuebench.figures.records import Bottleneck, Capacity, Limit, Plan, Scope, Summary, Verdict
from queuebench.figures.regression import Change
from queuebench.figures.requirement import Outcome
from queuebench.measuring.records import SettingValue, Stage
from queuebench.plumbing.printable import printable

NOTHING = "–"
LONGEST_NAME = 80
LONGEST_VALUE = 200
MOST_APART = 6

STAGES = {
    Stage.PUBLISH_LATENESS: "publish lateness",
    Stage.PUBLISH: "publish call",
    Stage.QUEUE_WAIT: "queue wait",
    Stage.QUEUE_WAIT_QUIET: "queue wait of quiet tenants",
    Stage.QUEUE_WAIT_NOISY: "queue wait of the noisy tenant",
    Stage.HAND_OVER: "hand-over",
    Stage.CELERY_WAIT: "Celery wait",
    Stage.POST: "POST",
    Stage.PUSH: "push, with its repetitions",
    Stage.END_TO_END: "end to end",
}
VERDICTS = {
    Verdict.VALID: "valid",
    Verdict.INVALID: "NOT VALID",
    Verdict.LOST: "LOST MESSAGES",
    Verdict.RUNNING: "running",
}
PRICES = (
    f"list prices, us-east-1, November 2026: SQS ${prices.SQS_USD_PER_MILLION['standard']:.2f} "
    f"(FIFO ${prices.SQS_USD_PER_MILLION['fifo']:.2f}) per million requests; a Redis and a worker "
    "by the hour as REDIS_USD_PER_HOUR and WORKER_USD_PER_HOUR say (defaults: ElastiCache "
    "cache.t4g.small, EC2 c7g.medium, on demand)"
)


# ---- amounts ----


def counted(number: int, what: str, several: str = "") -> str:
    """Return "1 slot" or "2 slots", "1 latency" or "2 latencies"."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def cut(text: str, most: int = LONGEST_VALUE) -> str:
    """Return a text of strangers as it can be shown: in one line, and not for ever."""
    text = text if len(text) <= most else f"{text[: most - 1]}… ({len(text):,} characters)"
    return printable(text)


def duration(seconds: float) -> str:
    """Return a duration to three digits or so."""
    if seconds >= 0.9995:
        text = f"{seconds:,.3f}".rstrip("0")
        return text + ("0 s" if text.endswith(".") else " s")
    if seconds >= 0.000_9995:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"


def in_hours(hours: float) -> str:
    """Return "1 hour" or "2 hours"."""
    return "1 hour" if hours == 1 else f"{hours:g} hours"


def share(part: float | None) -> str:
    """Return a share of one core, or of all, in per cent."""
    return "?" if part is None else f"{min(part, 1.0):.0%}"


# ---- what a run says ----


def verdict(run: Summary) -> str:
    """Return what to think of a run, with the reasons."""
    counts = run.counts
    losing = f"LOST {counts.lost:,} of {counts.published:,} messages" if counts.lost else ""
    unproven = "delivery is not proven, it is the worker's word" if run.proven is False else ""
    match run.verdict:
        case Verdict.RUNNING:
            return "still running"
        case Verdict.INVALID:
            return "NOT VALID: " + "; ".join([*map(flaw, run.flaws), *([losing] if losing else [])])
        case Verdict.LOST:
            return losing + (f" ({unproven})" if unproven else "")
    if run.scope is Scope.QUEUE and not unproven:
        return "valid: everything that was published was received, handed over and drained; no POST was made"
    but = f", but for {counted(counts.dead_lettered, 'dead letter')}" if counts.dead_lettered else ""
    if unproven:
        return f"valid, but {unproven}: it says that everything was delivered{but}"
    return f"valid: everything that was published was delivered{but}"


def flaw(found: Flaw) -> str:
    """Return why a run is not valid."""
    match found:
        case findings.NotAccepted():
            were = "was" if found.missing == 1 else "were"
            return f"{found.missing:,} of {counted(found.messages, 'message')} {were} not accepted"
        case findings.EndpointLate():
            return (
                f"the endpoint answered late: p99 {found.p99_seconds:.2f} s, where PUSH_SECONDS="
                f"{found.push_seconds:g} allows {found.limit_seconds:.2f} s"
            )
        case findings.ClocksApart():
            return f"the clocks of its processes disagree by {found.seconds:.2f} s: synchronise them (NTP)"
        case findings.ClocksWrong():
            return f"clocks disagreed: a latency of {found.lowest_seconds:.2f} s was measured"
        case findings.OutOfMemory():
            refused = f"{counted(found.refused, 'command')} refused"
            return f"{server(found.server)} ran out of memory: {refused}"
        case findings.Evicted():
            return f"{server(found.server)} evicted {counted(found.keys, 'key')}"
        case findings.NotFinished():
            return f"the run did not finish: nothing moved for {_long(found.still_seconds)}"
        case findings.SetAside():
            return "the run was set aside: the monitor could not go on with it"
        case findings.ArrivalUnknown():
            return "what arrived is not known: the endpoint did not answer /tally"
        case findings.NothingTimed():
            return f"nothing was measured: all was sent in the {found.warm_up_seconds:g} s of WARM_UP"
    assert_never(found)


def remark(found: Remark) -> str:
    """Return what to know before the figures of a valid run are trusted."""
    match found:
        case findings.NotProven():
            return "delivery is not proven: the endpoint is not ours, so arrival is the worker's word"
        case findings.PublisherFull():
            return (
                f"publisher: CPU {share(found.cpu_share)}: the publish rate is the publisher's own, "
                "not the queue's"
            )
        case findings.PublisherLate():
            return (
                f"publisher late: {found.offered:,.1f}/s of {found.asked:,.1f}/s asked, lateness p99 "
                f"{duration(found.lateness_ms / 1e3)}, {found.behind:,} of "
                f"{counted(found.intended, 'message')} due not sent in time: "
                + (
                    f"the queue throttled {counted(found.throttled, 'call')}"
                    if found.throttled
                    else "the rate is the publisher's, not the queue's"
                )
            )
        case findings.Unnumbered():
            bodies, be = (
                ("bodies", "are no JSON objects") if found.bodies > 1 else ("body", "is no JSON object")
            )
            return (
                f"{found.bodies:,} {bodies} of MESSAGES_FILE {be}: sent without a number, to end as dead "
                "letters, and no part of the counts"
            )
        case findings.Squeezed():
            return squeezed(found.faster)
        case findings.BacklogBefore():
            place = "the queue" if found.place is Place.QUEUE else "Celery"
            were = "was" if found.messages == 1 else "were"
            return (
                f"{counted(found.messages, 'message')} {were} in {place} before: shipped too, and in the way"
            )
        case findings.Unconfirmed():
            return f"{counted(found.messages, 'message')} arrived that no publisher had confirmed"
        case findings.NegativeLatencies():
            are = "is" if found.negative == 1 else "are"
            stage = STAGES.get(found.stage, found.stage)
            of_all = counted(found.count, "latency", "latencies")
            lowest = f"down to {found.lowest_ms:,.1f} ms"
            return f"{stage}: {found.negative:,} of {of_all} {are} negative ({lowest}): clocks differ"
        case findings.ImplausibleTimes():
            were = "was" if found.times == 1 else "were"
            return f"{counted(found.times, 'time')} that no message can have {were} left out of the latencies"
        case findings.Restarted():
            return _restarted(found)
        case findings.Died():
            names = ", ".join(counted(number, role) for role, number in found.processes.items())
            one = sum(found.processes.values()) == 1
            return (
                "died during the run, "
                + ("its last second is" if one else "their last seconds are")
                + f" not in the figures: {names}"
            )
        case findings.FewMessages():
            are = "is" if found.messages == 1 else "are"
            return f"{counted(found.messages, 'message')} {are} too few to tell capacity and cost by"
    assert_never(found)


def squeezed(faster: float) -> str:
    """Return what it means that a profile goes by in another time than it was counted in."""
    factor = max(faster, 1.0 / faster)
    times = f"{factor:,.0f} times" if factor >= 100 else f"{factor:.3g} times"
    if faster >= 1.0:
        return (
            f"PROFILE goes by {times} as fast: its rates are as they were counted, so there are {times} "
            f"fewer messages, the load changes {times} as fast, and what piles up is that much smaller"
        )
    return f"PROFILE goes by {times} as slowly: its rates are as they were counted, and last {times} as long"


def _restarted(found: findings.Restarted) -> str:
    times = "once" if found.times == 1 else f"{found.times} times"
    if found.appendonly == "no":
        kept = "it keeps nothing on disk, so what waited in it was lost"
    elif found.appendfsync in ("everysec", "no"):
        kept = f"appendfsync {found.appendfsync} may lose what was accepted in the last second or more"
    else:
        kept = "its figures begin anew"
    return f"{server(found.server)} restarted {times} during the run: {kept}"


def server(name: Server) -> str:
    """Return which Redis is meant."""
    return "Redis (the queue)" if name is Server.QUEUE else "Redis (Celery's broker)"


def _long(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


# ---- the bottleneck ----


def place(found: Bottleneck, label: str) -> str:
    """Return where a run was held back; the queue by its own name."""
    return label if found.place is Place.QUEUE else found.place.value


def bottleneck(found: Bottleneck, label: str) -> str:
    """Return where a run was held back, and why."""
    return f"{place(found, label)}: {why(found)}"


def why(found: Bottleneck) -> str:
    """Return which limit is used up, with its numbers."""
    rate = found.per_second or 0.0
    match found.limit:
        case Limit.LATE:
            late = f"answered after {_two(found.answer_seconds)} s (p99), later than the "
            return late + f"{_two(found.limit_seconds)} s allowed" + _cpu("endpoint", found.cpu_share)
        case Limit.POST:
            return (
                f"each POST takes {duration(found.post_seconds or 0.0)}, and messages waited only "
                f"{duration(found.wait_seconds or 0.0)} before it"
            )
        case Limit.ASKED:
            return f"load as asked, {rate:,.1f}/s, and everything kept up"
        case Limit.DELAY:
            return f"PUBLISHER_DELAY={found.delay_seconds:g} paces it: {rate:,.1f}/s"
        case Limit.QUOTA:
            quota = "FIFO quota" if found.fifo else "throttled"
            return (
                f"{quota} {rate:,.0f} calls/s ({found.throttled:,} of {found.calls:,} calls were throttled)"
            )
        case Limit.CPU:
            text = f"CPU {share(found.cpu_share)}"
            if found.capacity is not None:
                text += f": {capacity(found.capacity)} = {_rate(found.capacity.per_second)} a process"
            return text
        case Limit.CALLS:
            return f"{_rate(rate)}; a call of {found.call_ms:,.1f} ms (p50) after the other"
        case Limit.SLOTS:
            return (
                f"{counted(found.slots or 0, 'slot')} ÷ {duration(found.slot_seconds or 0.0)} = {_rate(rate)}"
            )
        case Limit.CORES:
            cores = "its core is" if found.cores == 1 else f"its {found.cores} cores are"
            return f"{cores} full ({share(found.machine_share)})" + _cpu(str(found.role), found.cpu_share)
        case Limit.UNKNOWN:
            return _unknown(found, rate)
    assert_never(found.limit)


def _unknown(found: Bottleneck, rate: float) -> str:
    if found.place is Place.NONE:
        return "nothing was delivered"
    if found.place is Place.SUBSCRIBER:
        return (
            f"received {_rate(rate)} and no limit of its own was reached; messages waited "
            f"{duration(found.wait_seconds or 0.0)} (p50) for it"
        )
    used = (
        f"{found.slots_share:.0%} of {counted(found.slots, 'slot')} used"
        if found.slots
        else "slots not known"
    )
    return f"{_rate(rate)}; {used}{_cpu(found.place.value, found.cpu_share)}"


def _rate(per_second: float) -> str:
    """Return a rate: whole where that says enough."""
    return f"{per_second:,.0f}/s" if per_second >= 10 or not per_second else f"{per_second:.3g}/s"


def _two(seconds: float | None) -> str:
    return f"{seconds or 0.0:.2f}"


def _cpu(role: str, cpu_share: float | None) -> str:
    return "" if cpu_share is None else f", {role}'s CPU {share(cpu_share)}"


# ---- plans ----


def capacity(carried: Capacity) -> str:
    """Return what bounds a process."""
    if carried.limit is Limit.SLOTS:
        return f"{counted(carried.slots or 0, 'slot')} ÷ {duration(carried.slot_seconds or 0.0)}"
    return f"1 core ÷ {duration((carried.cpu_us_per_message or 0.0) / 1e6)} of CPU a message"


def plan(found: Plan) -> str:
    """Return what a target needs."""
    return (
        f"{found.target:,} in {in_hours(found.hours)}: {counted(found.slots, 'slot')} = "
        f"{counted(found.workers, 'worker')}, {counted(found.subscribers, 'subscriber')}; "
        f"about ${found.usd:,.2f}"
    )


def arithmetic(found: Plan) -> list[str]:
    """Return how a plan comes about, a line a step."""
    rate, worker, subscriber = f"{found.per_second:,.1f}/s", found.worker, found.subscriber
    if found.sqs_usd_per_million is not None:
        queue = f"{found.target:,} × ${found.sqs_usd_per_million:.3g} a million (SQS)"
    else:
        queue = f"{in_hours(found.hours)} × ${found.redis_usd_per_hour or 0.0:g} (Redis)"
    return [
        f"{found.target:,} ÷ {found.hours * 3600:,.0f} s = {rate}",
        f"{rate} × {duration(found.slot_seconds)} a POST = {counted(found.slots, 'slot')} at work",
        f"{rate} ÷ {_rate(worker.per_second)} a worker process ({capacity(worker)}) "
        f"= {counted(found.workers, 'worker')}",
        f"{rate} ÷ {_rate(subscriber.per_second)} a subscriber process ({capacity(subscriber)}) "
        f"= {counted(found.subscribers, 'subscriber')}",
        f"{found.workers + found.subscribers} processes × {in_hours(found.hours)} × "
        f"${found.worker_usd_per_hour:g} + {queue} = ${found.usd:,.2f}",
    ]


# ---- groups ----


def outcome(found: Outcome) -> str:
    """Say whether a requirement is met, and what was found."""
    what = found.requirement
    value = "the run does not tell" if found.found is None else figure(found.found, what.unit)
    return f"{'met' if found.met else 'NOT MET'}  {what.text}  ({value})"


def change(found: Change) -> str:
    """Say how a figure changed."""
    unit = requirement.unit_of(found.path)
    by = f"by {found.worse_share:.1%}" if found.before else "from nothing"
    name = requirement.name_of(found.path)
    return f"{name} {figure(found.before, unit)} → {figure(found.after, unit)}, worse {by}"


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit: ms, s, us, share, /s, MiB, $ or none."""
    if unit in ("ms", "s", "us"):
        return duration(value * {"ms": 1e-3, "s": 1.0, "us": 1e-6}[unit])
    if unit == "share":
        return share(value)
    if unit == "$":
        return f"${value:,.4g}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}".removesuffix(".0")
    return text + (unit if unit == "/s" else f" {unit}" if unit else "")


def group_name(group: Group) -> str:
    """Return a group's queue, with what tells it from other groups of the same queue."""
    traits = [_trait(kind, name, value) for (kind, name), value in group.apart.items()]
    more = len(traits) - MOST_APART
    return ", ".join(
        [cut(group.middle.label, LONGEST_NAME), *traits[:MOST_APART], *([f"and {more} more"] * (more > 0))]
    )


def _trait(kind: Trait, name: str, value: SettingValue) -> str:
    if value is None:
        return f"no {cut(name, LONGEST_NAME)}"
    if kind is Trait.MESSAGES and isinstance(value, int):
        return counted(value, "message")
    if kind is Trait.RATE and isinstance(value, int | float):
        return f"{value:,.4g}/s" if value else "a flood"
    if kind is Trait.DURATION and isinstance(value, int | float):
        return f"{value:,.4g} s" if value else "until all are sent"
    if kind is Trait.PROCESSES and isinstance(value, int):
        return counted(value, name)
    if kind is Trait.CORES and isinstance(value, int):
        return counted(value, "core")
    between = " " if kind is Trait.VERSION else "="
    return f"{cut(name, LONGEST_NAME)}{between}{cut(setting(value), LONGEST_NAME)}"


def setting(value: SettingValue) -> str:
    """Return a setting's value as it can be written."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def notes(groups: Sequence[Group]) -> list[str]:
    """Return what has to be said beside the figures."""
    if not groups:
        return []
    found = [f"Prices: {PRICES}. Celery's broker, which both queues need, is not in it."]
    if any(len(group.runs) > 1 for group in groups):
        found.append(
            "Where runs were repeated: the median, and from the least to the most, of those that are valid; "
            "counts are of all."
        )
    if any(group.middle.local for group in groups):
        found.append(
            "local SQS is a server of this project, not AWS: its latency and quotas are modelled on "
            "AWS's, its speed is this machine's, and its costs are what AWS would bill for the same requests."
        )
    return found


# ---- what other programs read ----


def written(run: Summary) -> dict[str, Any]:
    """Return a summary as summary.json keeps it: all its numbers, and beside them their words.

    The words are `reasons` and `warnings` (of `flaws` and `remarks`), `bottleneck.stage` and `.why`,
    `how_many.text` and `.arithmetic`, and `cost.source`.
    """
    data: dict[str, Any] = msgspec.to_builtins(run)
    data["bottleneck"] = {
        "stage": place(run.bottleneck, run.label),
        "why": why(run.bottleneck),
        **data["bottleneck"],
    }
    data["cost"] |= {"source": PRICES}
    if run.how_many is not None:
        data["how_many"] |= {"text": plan(run.how_many), "arithmetic": arithmetic(run.how_many)}
    data["reasons"] = [flaw(found) for found in run.flaws]
    data["warnings"] = [remark(found) for found in run.remarks]
    return data
