"""What a benchmark is made of: contenders, their samples, and rows of the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from statistics import median

#: What one round of one contender measured: metric -> seconds, bytes, or a ratio.
Sample = dict[str, float]
Measure = Callable[[], Awaitable[Sample]]
#: A contender's name and one of its metrics.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Settings:
    """How much to measure; the same for every contender.

    Attributes:
        rounds: measured rounds of each contender, after one that does not count.
        quick: fewer tasks where that changes only the precision.
        uvloop: run every contender on uvloop's event loop.
        workers: of each pool, unless a benchmark is about their number.
    """

    rounds: int = 5
    quick: bool = False
    uvloop: bool = False
    workers: int = 2

    def size(self, full: int, quick: int) -> int:
        """The one of two sizes that applies."""
        return quick if self.quick else full


Session = Callable[[Settings], AbstractAsyncContextManager[Measure]]


@dataclass(frozen=True)
class Contender:
    """Something to measure, in a process of its own.

    Attributes:
        name: unique in its benchmark; what the table calls it.
        session: sets up, gives the function that measures one round, tears down.
        fresh: a new process for every round: where the start is what counts,
            and for peers that keep waking up, and so disturb others, when idle.
        warm: the first round of a process does not count.
        optional: no goal needs it; left out of a quick run.
    """

    name: str
    session: Session
    fresh: bool = False
    warm: bool = True
    optional: bool = False


@dataclass
class Results:
    """The samples of every contender, round by round, and what went wrong."""

    settings: Settings
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def values(self, cell: Cell) -> list[float]:
        """A contender's metric in each round; empty if it failed or lacks it."""
        name, metric = cell
        return [sample[metric] for sample in self.samples.get(name, []) if metric in sample]

    def median(self, cell: Cell) -> float | None:
        """The median over the rounds, or None."""
        values = self.values(cell)
        return median(values) if values else None

    def medians(self, cells: Mapping[str, Cell]) -> dict[str, float]:
        """Label -> median, of those that were measured."""
        found = {label: self.median(cell) for label, cell in cells.items()}
        return {label: value for label, value in found.items() if value is not None}


@dataclass(frozen=True)
class Goal:
    """A bound on a row's ratio, or on its value where there is nothing to compare with."""

    limit: float
    at_least: bool = False
    of_value: bool = False

    def is_met(self, value: float) -> bool:
        """Whether the value is within the bound."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        case: the benchmark's name, such as ``"P1"``.
        what: what was measured; unique in its benchmark.
        unit: of `value` and `others`: ``"s"``, ``"B"``, or ``"/s"``.
        value: offloop's median.
        reference: the label among `others` that it is compared with, or "".
        ratio: of the medians, in the direction of the goal.
        spread: lowest and highest ratio (or value) of a single round.
        goal: what to reach; None in a row that only informs.
        others: label -> median, for the peers and limits of the same run.
        error: why there is no result.
    """

    case: str
    what: str
    unit: str = "s"
    value: float | None = None
    reference: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    goal: Goal | None = None
    others: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def verdict(self) -> str:
        """``"pass"``, ``"short"``, ``"failed"``, or "" without a goal."""
        judged = self.value if self.goal is not None and self.goal.of_value else self.ratio
        if self.error or self.value is None:
            return "failed"
        if self.goal is None:
            return ""
        if judged is None:
            return "failed"
        return "pass" if self.goal.is_met(judged) else "short"


@dataclass(frozen=True)
class Line:
    """How a row is made from results.

    Attributes:
        what: as in `Row`.
        ours: the cell that is judged.
        reference: label and cell that it is compared with; None for a row about the value itself.
        others: further labels and cells to show.
        goal: as in `Row`.
        unit: as in `Row`; with ``"/s"`` cells in seconds per item are shown as rates.
        inverse: the ratio is reference / ours: how many times faster, or which share of the ideal.
    """

    what: str
    ours: Cell
    reference: tuple[str, Cell] | None = None
    others: Mapping[str, Cell] = field(default_factory=dict)
    goal: Goal | None = None
    unit: str = "s"
    inverse: bool = False

    def row(self, case: str, results: Results) -> Row:
        """Judge the medians; the spread pairs the values round by round."""
        value = results.median(self.ours)
        cells = dict([self.reference] if self.reference else []) | dict(self.others)
        others = results.medians(cells)
        shown = {label: self._shown(other) for label, other in others.items()}
        if value is None:
            error = results.errors.get(self.ours[0], "not measured")
            return Row(case, self.what, self.unit, goal=self.goal, others=shown, error=error)
        label, against = self.reference or ("", None)
        base = others.get(label)
        error = results.errors.get(against[0], "not measured") if against and base is None else ""
        return Row(
            case,
            self.what,
            self.unit,
            self._shown(value),
            label,
            None if base is None else self._ratio(value, base),
            self._spread(results, against),
            self.goal,
            shown,
            error,
        )

    def _spread(self, results: Results, against: Cell | None) -> tuple[float, float] | None:
        values = results.values(self.ours)
        if against is None:
            return self._shown(min(values)), self._shown(max(values))
        pairs = zip(values, results.values(against), strict=False)
        ratios = [self._ratio(value, base) for value, base in pairs]
        return (min(ratios), max(ratios)) if ratios else None

    def _ratio(self, value: float, base: float) -> float:
        return base / value if self.inverse else value / base

    def _shown(self, value: float) -> float:
        return 1 / value if self.unit == "/s" else value


def fastest(results: Results, cells: Mapping[str, Cell]) -> tuple[str, Cell] | None:
    """The label and cell with the lowest median, or None if none was measured."""
    medians = results.medians(cells)
    if not medians:
        return None
    label = min(medians, key=medians.__getitem__)
    return label, cells[label]


@dataclass(frozen=True)
class Case:
    """One benchmark of the table.

    Attributes:
        name: such as ``"P1"``.
        title: what it is about, for ``--list``.
        contenders: measured in this order, round by round.
        lines: its rows, given the results (which decide, say, who is the best peer).
    """

    name: str
    title: str
    contenders: Sequence[Contender]
    lines: Callable[[Results], Sequence[Line]]

    def contender(self, name: str) -> Contender:
        """The contender with this name."""
        return next(contender for contender in self.contenders if contender.name == name)

    def chosen(self, settings: Settings) -> list[Contender]:
        """Those that a run measures."""
        return [each for each in self.contenders if not (each.optional and settings.quick)]

    def rows(self, results: Results) -> list[Row]:
        """The rows of the table."""
        return [line.row(self.name, results) for line in self.lines(results)]
