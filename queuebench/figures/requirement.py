"""What is required of a run: `end_to_end.p99 < 5 s`, `lost = 0`, `machine.cpu_share < 90 %`."""

from __future__ import annotations

import difflib
import math
import operator
import re
import types
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from queuebench.errors import SettingsError
from queuebench.figures.records import Latency, Summary
from queuebench.measuring.records import Stage

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
Unit = Literal["ms", "s", "us", "share", "/s", "MiB", "$", ""]
# A unit and how much of the figure's own unit it is, by what kind of figure it may follow.
_UNITS: Mapping[Unit, Mapping[str, float]] = {
    "ms": {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0, "min": 60_000.0, "h": 3_600_000.0},
    "s": {"us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0},
    "us": {"us": 1.0, "µs": 1.0, "ms": 1000.0, "s": 1e6},
    "share": {"": 1.0, "%": 0.01},
    "/s": {"": 1.0, "/s": 1.0},
    "MiB": {"": 1.0, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0},
    "$": {"": 1.0, "$": 1.0},
    "": {"": 1.0},
}
_TEXT = re.compile(
    r"\s*(?P<name>[a-z0-9_.() -]*?[a-z0-9_)])\s*(?P<operator><=|>=|==|!=|<|>|=)\s*\$?\s*"
    r"(?P<number>[0-9][0-9_,]*\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*(?P<unit>[a-zµ%$/]*)\s*",
    re.IGNORECASE,
)


class Requirement(NamedTuple):
    """One of them, as it was written and as it is checked."""

    text: str
    path: tuple[str, ...]
    operator: str
    value: float  # in the figure's own unit
    unit: str  # that the figure has: ms, s, us, share, /s, MiB, $ or none


class Outcome(NamedTuple):
    """Whether a run meets a requirement; `found` None: the run does not tell, which meets nothing."""

    requirement: Requirement
    found: float | None
    met: bool


def add_option(parser: ArgumentParser, what: str) -> None:
    """Add `--require`, several at once or one by one."""
    parser.add_argument("--require", nargs="+", action="extend", default=[], metavar="FIGURE", help=what)


def parse(text: str) -> Requirement:
    """Return the requirement that a text states.

    A figure is named by its place in a run's summary.json. A stage alone stands for its latencies
    (`end_to_end.p99`), and what `counts` holds needs no prefix (`lost`).

    Raises:
        SettingsError: there is no such figure, or the unit does not fit it; one line.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise SettingsError(f"{text!r}: something like 'end_to_end.p99 < 5 s' or 'lost = 0' is needed")
    path = parse_name(found["name"].strip().lower())
    unit = unit_of(path)
    units = _UNITS[unit]
    given = found["unit"] if found["unit"] in units else found["unit"].lower()
    by_lower = {name.lower(): factor for name, factor in units.items()}
    if given.lower() not in by_lower:
        wanted = ", ".join(name for name in units if name) or "none"
        raise SettingsError(f"{text!r}: {'.'.join(path)} needs a unit of these: {wanted}")
    value = float(found["number"].replace(",", "").replace("_", "")) * by_lower[given.lower()]
    if not math.isfinite(value):
        raise SettingsError(f"{text!r}: the number is too large")
    return Requirement(text.strip(), path, found["operator"], value, unit)


def check(requirements: Sequence[Requirement], run: Summary) -> list[Outcome]:
    """Return how a run meets each of some requirements."""
    tree = msgspec.to_builtins(run, str_keys=True)
    outcomes = []
    for requirement in requirements:
        value = figure(tree, requirement.path)
        met = value is not None and OPERATORS[requirement.operator](value, requirement.value)
        outcomes.append(Outcome(requirement, value, met))
    return outcomes


def figure(tree: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """Return a figure of a summary that was turned into dictionaries; None: it is not known.

    Quantiles of a stage that timed nothing are not known, whatever they read.
    """
    value: Any = tree
    for name in path:
        if isinstance(value, Mapping) and value.get("count") == 0 and {"p50", "p99"} <= value.keys():
            return 0.0 if name == "count" else None
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, int | float) else None


def figures() -> list[str]:
    """Return every figure that can be required, by the shortest name that it has."""
    return sorted({name_of(path) for path in _leaves(Summary, ())})


def name_of(path: tuple[str, ...]) -> str:
    """Return the shortest name of a figure."""
    return ".".join(path[1:] if path[0] in ("latency_ms", "counts") else path)


def parse_name(name: str) -> tuple[str, ...]:
    """Return the place of a figure that is named.

    Raises:
        SettingsError: there is no such figure.
    """
    parts = tuple(name.split("."))
    if parts[0] in tuple(Stage):
        parts = ("latency_ms", *parts)
    elif len(parts) == 1 and parts[0] in _field_types(_field_types(Summary)["counts"]):
        parts = ("counts", *parts)
    if not _is_figure(Summary, parts):
        known = figures()
        near = difflib.get_close_matches(name, known, 3, 0.5)
        raise SettingsError(
            f"{name!r} is no figure of a run; "
            + (f"is it {' or '.join(near)}?" if near else "look into a summary.json, or try end_to_end.p99")
        )
    return parts


def _is_figure(kind: Any, path: tuple[str, ...]) -> bool:
    for option in _options(kind):
        if not path:
            if option in (int, float, bool):
                return True
        elif isinstance(option, type) and issubclass(option, Struct):
            fields = _field_types(option)
            if path[0] in fields and _is_figure(fields[path[0]], path[1:]):
                return True
        elif get_origin(option) is dict:
            key, value = get_args(option)
            if _is_key(key, path[0]) and _is_figure(value, path[1:]):
                return True
    return False


def _leaves(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for option in _options(kind):
        if option in (int, float, bool):
            yield path
        elif isinstance(option, type) and issubclass(option, Struct):
            for name, field in _field_types(option).items():
                yield from _leaves(field, (*path, name))
        elif get_origin(option) is dict:
            key, value = get_args(option)
            if isinstance(key, type) and issubclass(key, Enum):
                for member in key:
                    yield from _leaves(value, (*path, str(member.value)))


def _options(kind: Any) -> Sequence[Any]:
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [option for each in get_args(kind) for option in _options(each)]
    if get_origin(kind) is Literal:
        return []
    return [kind]


def _is_key(kind: Any, name: str) -> bool:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return name in {str(member.value) for member in kind}
    return bool(name)


def _field_types(struct: Any) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


def unit_of(path: Sequence[str]) -> Unit:
    """Return the unit that a figure has: ms, s, us, share, /s, MiB, $ or ''."""
    last = path[-1]
    if path[0] == "latency_ms" and last in _field_types(Latency) and last not in ("count", "negative"):
        return "ms"
    if path[0] == "seconds" or last.endswith("seconds"):
        return "s"
    if last.endswith("_us_per_message"):
        return "us"
    if last.endswith("_share"):
        return "share"
    if path[0] == "rates" or last.endswith("per_second"):
        return "/s"
    if last.endswith("_mib"):
        return "MiB"
    if last.endswith("_ms"):
        return "ms"
    return "$" if "usd" in last else ""
