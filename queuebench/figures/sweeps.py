"""A sweep: what was varied, and the runs of each combination; frozen types, numbers and codes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from queuebench.errors import SettingsError
from queuebench.figures.records import Summary, Verdict
from queuebench.figures.requirement import figure
from queuebench.measuring.records import FORMAT

MOST_CELLS = 10_000
VARIANT = "variant"

Values = dict[str, str]


class Definition(Struct, frozen=True):
    """What is varied; each combination is run `repeats` times."""

    vary: dict[str, list[str]] = {}  # a setting, or QUEUE, SUBSCRIBERS, WORKERS, and its values
    variants: dict[str, dict[str, str]] = {}  # by name, several settings at once
    repeats: int = 1
    messages: str = ""
    settings: dict[str, str] = {}  # the same in all
    sqs: str = ""

    def combinations(self) -> list[Values]:
        """Return every combination by what it is varied in, the variant's name first.

        Raises:
            SettingsError: there are too many.
        """
        axes: dict[str, Sequence[str]] = {VARIANT: list(self.variants)} if self.variants else {}
        axes |= self.vary
        total = self.repeats
        for values in axes.values():
            total *= max(1, len(values))
        if total > MOST_CELLS:
            raise SettingsError(f"{total:,} runs are too many: a sweep takes {MOST_CELLS:,}")
        return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]

    def cells(self) -> list[Cell]:
        """Return all runs in the order in which they are made.

        Each repetition goes through all combinations in another order, so that the machine's drift falls on
        all of them alike; the order is the same whenever it is asked for.
        """
        combinations = self.combinations()
        cells = []
        for repeat in range(self.repeats):
            order = list(combinations)
            random.Random(repeat).shuffle(order)
            cells += [Cell(values, repeat) for values in order]
        return cells

    def all_settings(self, values: Mapping[str, str]) -> Values:
        """Return what a combination sets, QUEUE, SUBSCRIBERS and WORKERS among it."""
        varied = {name: value for name, value in values.items() if name != VARIANT}
        return {**self.settings, **self.variants.get(values.get(VARIANT, ""), {}), **varied}


class Cell(Struct, frozen=True):
    """One run of a sweep: still to be made, made, or failed."""

    values: Values
    repeat: int
    run_id: str | None = None
    failure: str = ""  # why it has no figures
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether it need not be run any more."""
        return self.run_id is not None or bool(self.failure)


class Sweep(Struct, frozen=True):
    """A sweep as it stands; kept on disk as it is."""

    definition: Definition
    cells: list[Cell]
    format: int = FORMAT

    def with_cell(self, position: int, cell: Cell) -> Sweep:
        """Return it with another cell at a position."""
        cells = list(self.cells)
        cells[position] = cell
        return replace(self, cells=cells)

    def left(self) -> Iterator[tuple[int, Cell]]:
        """Yield what is still to be run, with its position."""
        yield from ((position, cell) for position, cell in enumerate(self.cells) if not cell.done)


class Combination(Struct, frozen=True):
    """The runs of one combination: those whose figures count, and what became of the others."""

    values: Values
    counted: list[Summary]
    invalid: int  # runs that are not valid, or lost messages
    failed: list[str]  # why there are no figures of a run

    def figures(self, path: Sequence[str]) -> list[float]:
        """Return a figure of each run that counts and knows it."""
        trees = [msgspec.to_builtins(run, str_keys=True) for run in self.counted]
        return [value for tree in trees if (value := figure(tree, path)) is not None]


def combined(sweep: Sweep, runs: Mapping[str, Summary]) -> list[Combination]:
    """Return the runs of each combination, in the order of the definition.

    Args:
        sweep: the sweep.
        runs: the summaries that there are, by run id.
    """
    found = []
    for values in sweep.definition.combinations():
        cells = [cell for cell in sweep.cells if cell.values == values]
        known = [runs[cell.run_id] for cell in cells if cell.run_id and cell.run_id in runs]
        counted = [run for run in known if run.verdict is Verdict.VALID]
        failed = [cell.failure for cell in cells if cell.failure]
        failed += ["its summary is gone" for cell in cells if cell.run_id and cell.run_id not in runs]
        found.append(Combination(values, counted, len(known) - len(counted), failed))
    return found
