"""Summaries side by side: repeats are grouped, with their medians and with what tells groups apart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from queuebench.figures import planner
from queuebench.figures.records import Bottleneck, Plan, Summary, Verdict
from queuebench.measuring.records import Role, SettingValue

# Settings that say where something is, not what it does, and those that are told by the load.
PLACES = ("CHANNEL_NAME", "MESSAGES", "RATE", "DURATION")
# What need not be said of a group, for it follows from how its load is made.
UNSAID = ("WARM_UP",)


class Trait(StrEnum):
    """A kind of thing in which two groups can differ."""

    MESSAGES = "messages"  # of a flood
    RATE = "rate"  # messages a second that were asked for
    DURATION = "duration"  # seconds
    PROCESSES = "processes"  # of a role
    SETTING = "setting"
    VERSION = "version"  # of what takes part: packages, the commit, the local SQS's options
    CORES = "cores"


Traits = Mapping[tuple[Trait, str], SettingValue]


@dataclass(frozen=True)
class Group:
    """Runs of one queue that repeat one another."""

    runs: Sequence[Summary]
    counted: Sequence[Summary]  # those whose figures count: the valid ones, or all where none is
    middle: Summary  # the median of every figure of those
    apart: Traits  # in which it differs from other groups of the same queue

    @property
    def bottleneck(self) -> Bottleneck:
        """What bounded the run in the middle, by the time that it took."""
        by_time = sorted(self.counted, key=lambda run: run.seconds.total)
        return by_time[(len(by_time) - 1) // 2].bottleneck

    def how_many(self, target: int, hours: float) -> Plan | None:
        """Return what a target needs, by the medians."""
        return planner.how_many(self.middle, self.middle.capacity, self.middle.cost, target, hours)


def one_scope(summaries: Sequence[Summary]) -> bool:
    """Tell whether runs go through the same part of the pipeline: others are never compared."""
    return len({run.scope for run in summaries}) <= 1


def exit_code(summaries: Sequence[Summary]) -> int:
    """Return 0 where every run is valid and over and lost nothing, else 1."""
    return 0 if summaries and all(run.verdict is Verdict.VALID for run in summaries) else 1


def group(summaries: Sequence[Summary]) -> list[Group]:
    """Return the runs grouped by queue, settings, versions and machine, in the order in which they came."""
    by_key: dict[bytes, list[Summary]] = {}
    for summary in summaries:
        key = msgspec.json.encode(
            [summary.label, [[*name, value] for name, value in _traits(summary).items()]]
        )
        by_key.setdefault(key, []).append(summary)
    groups = []
    for runs in by_key.values():
        counted = [run for run in runs if not run.flaws] or runs
        groups.append(Group(runs, counted, _middle(counted), {}))
    return [replace(one, apart=_apart(one, groups)) for one in groups]


def _traits(run: Summary) -> Traits:
    """Return what makes two runs of a queue repeats of one another, in the order of its weight."""
    load = run.load
    if load.asked or load.duration:
        traits: dict[tuple[Trait, str], SettingValue] = {
            (Trait.RATE, ""): load.asked,
            (Trait.DURATION, ""): load.duration,
        }
    else:
        traits = {(Trait.MESSAGES, ""): run.messages}
    for role, used in sorted(run.resources.items()):
        if role is not Role.ENDPOINT:
            traits[Trait.PROCESSES, role] = used.processes
    for name, value in sorted(run.settings.items()):
        if name == "PUSH_URL":
            traits[Trait.SETTING, name] = bool(value)
        elif name not in PLACES and not name.endswith(("_URL", "_URL_SQS")):
            traits[Trait.SETTING, name] = value
    for server, use in sorted(run.servers.items()):
        traits[Trait.VERSION, f"redis_{server}"] = use.version
        traits[Trait.SETTING, f"redis_{server}_appendonly"] = use.appendonly
        traits[Trait.SETTING, f"redis_{server}_appendfsync"] = use.appendfsync
    traits |= {(Trait.VERSION, name): version for name, version in sorted(run.versions.items())}
    return traits | {(Trait.CORES, ""): run.machine.cores}


def _apart(one: Group, groups: Sequence[Group]) -> Traits:
    mine = _traits(one.runs[0])
    others = [_traits(other.runs[0]) for other in groups if other.runs[0].label == one.runs[0].label]
    names = dict.fromkeys(name for traits in [mine, *others] for name in traits)
    return {
        name: mine[name]
        for name in names
        if name in mine and name[1] not in UNSAID
        if any(traits.get(name) != mine[name] for traits in others)
    }


def _middle(runs: Sequence[Summary]) -> Summary:
    first = runs[0]
    if len(runs) == 1:
        return first
    middle: Summary = _median(runs)
    # What a process carries follows from the medians, and by the limit that fits them.
    return msgspec.structs.replace(
        middle,
        settings=first.settings,
        versions=first.versions,
        capacity=planner.per_process(middle.resources, middle.slots, middle.slot_seconds),
    )


def _median(values: Sequence[Any]) -> Any:
    """Return the same structure with the median of every number, and the first of all else.

    What is a number in some and missing in others has the median of those that have it.
    """
    first = values[0]
    known = [value for value in values if value is not None]
    numbers = [value for value in known if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and len(numbers) == len(known):
        median = statistics.median(numbers)
        return round(median) if all(isinstance(number, int) for number in numbers) else float(median)
    same = [value for value in known if type(value) is type(first)]
    if isinstance(first, Struct):
        names = first.__struct_fields__
        return type(first)(**{name: _median([getattr(value, name) for value in same]) for name in names})
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in same for key in value)
        return {key: _median([value[key] for value in same if key in value]) for key in keys}
    return first
