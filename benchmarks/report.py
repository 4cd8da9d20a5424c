"""The table on the screen, and runs saved as JSON to compare with later."""

from __future__ import annotations

import json
import math
import os
import platform
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.model import Goal, Results, Row, Settings

PEERS = ("loky", "pebble", "anyio", "aiomultiprocess", "mpire", "joblib", "numpy", "uvloop")
WIDTH = 110
#: Name, what, ours, ratio, lowest and highest ratio of a round, goal, verdict, change.
COLUMNS = "{:<4} {:<46} {:>9} {:>7}  {:>17} {:>9}  {:<6}{}"

#: Earlier values and ratios, by (case, what).
Earlier = Mapping[tuple[str, str], tuple[float | None, float | None]]


def quantity(value: float, unit: str) -> str:
    """Three digits with a unit that suits the size: ``7.06 µs``, ``1.41 M/s``, ``812 B``."""
    steps = {
        "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
        "/s": ((1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")),
        "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    }[unit]
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{_digits(value / size)} {name}"


def _digits(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    if not value:
        return "0"
    after = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{after}f}"


def header(settings: Settings) -> str:
    """What was measured on, and with what; a loaded machine is admitted to."""
    kind = " (quick)" if settings.quick else ""
    parts = (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"{len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f} at the start",
        "uvloop" if settings.uvloop else "asyncio's own loop",
        f"{settings.workers} workers",
        f"medians of {settings.rounds} interleaved rounds{kind}",
    )
    lines = (
        "; ".join(parts),
        COLUMNS.format("", "", "ours", "ratio", "rounds", "goal", "", "").rstrip(),
    )
    return "\n".join(lines)


def render(row: Row, earlier: Earlier | None = None) -> str:
    """A row of the table; below it what it is compared with, then the peers' figures."""
    if row.value is None:
        return COLUMNS.format(row.case, row.what, "-", "", "", "", row.verdict, f" {row.error}")
    line = COLUMNS.format(
        row.case,
        row.what,
        quantity(row.value, row.unit),
        "" if row.ratio is None else _digits(row.ratio),
        _spread(row),
        _goal(row.goal, row.unit),
        row.verdict,
        _change(row, earlier) + (f" {row.error}" if row.error else ""),
    ).rstrip()
    details = [f"{label} {quantity(value, row.unit)}" for label, value in row.others.items()]
    if not details:
        return line
    start = " " * 7
    first = f"{start}against " if row.reference in row.others else start
    return f"{line}\n" + textwrap.fill(
        ", ".join(details), WIDTH, initial_indent=first, subsequent_indent=start, break_on_hyphens=False
    )


def _spread(row: Row) -> str:
    if row.spread is None:
        return ""
    unit = row.unit if row.ratio is None else ""
    return " - ".join(_short(value, unit) for value in row.spread)


def _short(value: float, unit: str) -> str:
    return quantity(value, unit).replace(" ", "") if unit else _digits(value)


def _goal(goal: Goal | None, unit: str) -> str:
    if goal is None:
        return ""
    limit = quantity(goal.limit, unit) if goal.of_value else _digits(goal.limit)
    return f"{'≥' if goal.at_least else '≤'} {limit}"


def _change(row: Row, earlier: Earlier | None) -> str:
    """Now divided by then, of the value and (where there is one) of the ratio to the reference."""
    if earlier is None:
        return ""
    value, ratio = earlier.get((row.case, row.what), (None, None))
    if not value or row.value is None:
        return " new"
    text = f" x{row.value / value:.2f}"
    return f"{text} (ratio x{row.ratio / ratio:.2f})" if row.ratio and ratio else text


def summary(rows: Iterable[Row]) -> str:
    """How many goals were reached."""
    verdicts = [row.verdict for row in rows]
    parts = {name: verdicts.count(name) for name in ("pass", "short", "failed")}
    return ", ".join(f"{count} {name}" for name, count in parts.items() if count or name != "failed")


def as_json(settings: Settings, rows: Iterable[Row], results: Mapping[str, Results]) -> str:
    """The whole run: settings, machine, versions, rows, and every sample."""
    run = {
        "settings": asdict(settings),
        "machine": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": len(os.sched_getaffinity(0)),
            "load": os.getloadavg(),
        },
        "versions": _versions(),
        "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
        "samples": {name: found.samples for name, found in results.items()},
        "errors": {name: found.errors for name, found in results.items()},
    }
    return json.dumps(run, indent=1)


def _versions() -> dict[str, str]:
    found = {}
    for name in ("offloop", *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass  # its rows say that it is missing
    return found


def read_earlier(path: Path) -> Earlier:
    """The values and ratios of a saved run.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not a saved run.
    """
    run: Any = json.loads(path.read_text())
    try:
        return {(row["case"], row["what"]): (row["value"], row["ratio"]) for row in run["rows"]}
    except (KeyError, TypeError):
        raise ValueError("not saved by --json") from None
