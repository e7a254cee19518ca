"""Figures over settings: curves with their spread, and heat maps, each with its table, as HTML."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import orjson

from queuebench.figures.requirement import Unit
from queuebench.report import charts, words
from queuebench.report.page import filled

HERE = Path(__file__).parent
# How the script writes a unit, and by how much it is multiplied for that.
_SHOWN: dict[str, tuple[str, float]] = {
    "ms": ("span", 1e-3),
    "s": ("span", 1.0),
    "us": ("span", 1e-6),
    "share": ("percent", 1.0),
    "$": ("money", 1.0),
}
_UNITS = {"/s": "a second", "MiB": "MiB", "$": "USD", "share": "%"}
_LOG_FROM = 8.0  # a scale is logarithmic where the largest value is so many times the smallest


@dataclass(frozen=True)
class Measured:
    """What repeats of one combination measured; no values where none counts, and a note that says why."""

    at: str  # the setting's value
    values: Sequence[float]
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A queue or a variant: its figure at each value of the setting."""

    name: str
    points: Sequence[Measured]
    colour: int = 0  # the same number is the same colour in every figure


@dataclass(frozen=True)
class Curves:
    """A figure over a setting."""

    title: str
    setting: str
    lines: Sequence[Line]
    unit: Unit = ""


@dataclass(frozen=True)
class Square:
    """A heat map's cell: what repeats of one combination measured."""

    across: str
    down: str
    values: Sequence[float]
    note: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A figure over two settings."""

    title: str
    across: str  # the setting whose values are columns
    down: str  # … and rows
    squares: Sequence[Square] = field(default_factory=tuple)
    unit: Unit = ""
    colour: int = 1


def curves(shown: Curves) -> str:
    """Return a figure over a setting as HTML: median of repeats, lowest to highest, and a table."""
    ats = in_order([point.at for line in shown.lines for point in line.points])
    numbers = [_number(at) for at in ats]
    known = [value for line in shown.lines for point in line.points for value in point.values]
    repeated = any(len(point.values) > 1 for line in shown.lines for point in line.points)
    format_, factor = _SHOWN.get(shown.unit, ("short", 1.0))
    data = {
        "kind": "curves",
        "title": shown.title,
        "unit": _unit(
            shown.unit,
            f"over {shown.setting}" + ("; median, lowest and highest of repeats" if repeated else ""),
        ),
        "setting": shown.setting,
        "format": format_,
        "ats": ats if None in numbers else numbers,
        "scale": "ordinal" if None in numbers else "log" if _is_wide(numbers) else "linear",
        "logarithmic": _is_wide(known),
        "said": "; ".join(f"{line.name}: {_said(line.points, shown.unit)}" for line in shown.lines),
        "lines": [{"name": line.name, "colour": line.colour} for line in shown.lines],
        "rows": [
            {"line": number, "at": point.at if None in numbers else _number(point.at)}
            | _spread(point, factor)
            for number, line in enumerate(shown.lines)
            for point in sorted(line.points, key=lambda point: ats.index(point.at))
        ],
    }
    by_name = [{point.at: point for point in line.points} for line in shown.lines]
    head = [shown.setting, *(line.name for line in shown.lines)]
    body = [[at, *(_text(points.get(at), shown.unit) for points in by_name)] for at in ats]
    legend = "".join(
        f'<li><i style="--colour:var(--c{line.colour % charts.COLOURS})"></i>{escape(line.name)}</li>'
        for line in shown.lines
    )
    return _figure(data, f'<ul class="legend">{legend}</ul>', _table(shown.title, head, body))


def heat_map(shown: HeatMap) -> str:
    """Return a figure over two settings as HTML: squares coloured by their median, and a table."""
    columns = in_order([square.across for square in shown.squares])
    rows = in_order([square.down for square in shown.squares])
    format_, factor = _SHOWN.get(shown.unit, ("short", 1.0))
    places = {(square.across, square.down): square for square in shown.squares}
    data = {
        "kind": "heat map",
        "title": shown.title,
        "unit": _unit(shown.unit, _palest(shown)),
        "across": shown.across,
        "down": shown.down,
        "columns": columns,
        "lines": rows,
        "format": format_,
        "colour": shown.colour,
        "logarithmic": _is_wide([value for square in shown.squares for value in square.values]),
        "said": "; ".join(
            f"{shown.down} {square.down}, {shown.across} {square.across}: {_text(square, shown.unit)}"
            for square in shown.squares
        ),
        "rows": [
            {"across": square.across, "down": square.down} | _spread(square, factor)
            for square in shown.squares
        ],
    }
    head = [f"{shown.down} ↓ {shown.across} →", *columns]
    body = [[row, *(_text(places.get((column, row)), shown.unit) for column in columns)] for row in rows]
    return _figure(data, "", _table(shown.title, head, body))


def document(title: str, fragments: Sequence[str]) -> str:
    """Return one HTML file that needs nothing else, of figures and other HTML."""
    body = f"<h1>{escape(title)}</h1>" + "".join(fragments)
    script = (HERE / "diagrams.js").read_text(encoding="utf-8")
    return filled(title, body, None, f"<script>{charts.library()[0]}</script>", script)


def in_order(values: Sequence[str]) -> list[str]:
    """Return each value once: numbers by size, anything else as it comes."""
    found = list(dict.fromkeys(values))
    numbers = {value: _number(value) for value in found}
    if all(number is not None for number in numbers.values()):
        found.sort(key=lambda value: numbers[value] or 0.0)
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None  # neither infinite nor none


def _is_wide(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= _LOG_FROM


def _spread(found: Measured | Square, factor: float) -> dict[str, Any]:
    if not found.values:
        return {"note": found.note or words.NOTHING}
    return {
        "low": min(found.values) * factor,
        "middle": statistics.median(found.values) * factor,
        "high": max(found.values) * factor,
        "repeats": len(found.values),
    }


def _unit(unit: str, more: str) -> str:
    return ", ".join(part for part in (_UNITS.get(unit, ""), more) if part)


def _palest(shown: HeatMap) -> str:
    middles = [statistics.median(square.values) for square in shown.squares if square.values]
    if not middles or min(middles) == max(middles):
        return ""
    lowest, highest = (words.figure(found, shown.unit) for found in (min(middles), max(middles)))
    return f"from {lowest} (faint) to {highest} (full)"


def _said(points: Sequence[Measured], unit: str) -> str:
    return ", ".join(f"{_text(point, unit)} at {point.at}" for point in points)


def _text(found: Measured | Square | None, unit: str) -> str:
    """Say median and spread, or why there is none."""
    if found is None:
        return words.NOTHING
    if not found.values:
        return found.note or words.NOTHING
    low, high = min(found.values), max(found.values)
    text = words.figure(statistics.median(found.values), unit)
    if low < high:
        text += f" ({words.figure(low, unit)} … {words.figure(high, unit)})"
    return f"{text}; {found.note}" if found.note else text


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in body
    )
    return (
        "<details><summary>The figures as a table</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}, as a table">'
        f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _figure(data: dict[str, Any], legend: str, table: str) -> str:
    text = orjson.dumps(data).decode().replace("<", "\\u003c")
    return (
        f'<section class="diagram">{legend}<div class="place"></div>'
        f'<script type="application/json" class="diagram-data">{text}</script>{table}</section>'
    )
