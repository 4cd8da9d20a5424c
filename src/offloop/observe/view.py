"""What a live view shows: lines and a table, made of one snapshot after the other."""

from __future__ import annotations

from collections import deque
from typing import Any

from offloop.observe.meter import OUTCOMES
from offloop.observe.table import duration, printable, size

#: The table's columns; those in capitals are aligned to the right.
COLUMNS = ("WORKER", "state", "PID", "DONE", "PER S", "BUSY", "MEMORY", "current task")
_BARS = " ▁▂▃▄▅▆▇█"
#: How many rates the curve shows.
_WIDTH = 48
#: Of an interval below that, in seconds, a rate says nothing.
_SHORTEST = 0.05


class View:
    """Follows one pool's snapshots.

    Args:
        title: the pool's ``repr``, or another text that names it.

    Attributes:
        lines: what stands above the table, each a label and a text.
        rows: the table's rows, as `COLUMNS` names them.
    """

    def __init__(self, title: str = "") -> None:
        self.title = title
        self.lines: list[tuple[str, str]] = []
        self.rows: list[tuple[str, ...]] = []
        self._known: deque[dict[str, Any]] = deque(maxlen=2)
        self._rates: deque[float] = deque(maxlen=_WIDTH)

    def update(self, now: dict[str, Any], title: str | None = None) -> None:
        """Take the next snapshot, as `Statistics.to_dict` gives it."""
        self.title = printable(self.title if title is None else title)
        before = next(
            (each for each in reversed(self._known) if now["time"] - each["time"] >= _SHORTEST), None
        )
        self._known.append(now)
        seconds = now["time"] - before["time"] if before is not None else 0.0
        changed = _differences(now, before) if before is not None else None
        rate = changed["done"] / seconds if changed is not None else None
        if rate is not None:
            self._rates.append(max(0.0, rate))
        self.lines = _lines(now, changed, rate, self._rates)
        earlier = {worker["worker_id"]: worker for worker in before["workers"]} if before is not None else {}
        self.rows = [_row(worker, earlier.get(worker["worker_id"]), seconds) for worker in now["workers"]]

    def say(self, text: str) -> None:
        """Show a text in place of what is known."""
        self.lines, self.rows = [("", printable(text))], []


def _differences(now: dict[str, Any], before: dict[str, Any]) -> dict[str, float]:
    names = "done", "busy_seconds", "capacity_seconds", "bytes_out", "bytes_in"
    return {name: max(0, now[name] - before[name]) for name in names}


def _lines(
    now: dict[str, Any], changed: dict[str, float] | None, rate: float | None, rates: deque[float]
) -> list[tuple[str, str]]:
    ended = [f"{now[name]:,} {name.replace('_', ' ')}" for name in OUTCOMES if now[name]]
    busy = now["busy_fraction"]
    if changed is not None:
        busy = (
            min(1.0, changed["busy_seconds"] / changed["capacity_seconds"])
            if changed["capacity_seconds"]
            else 0.0
        )
    states = ", ".join(f"{count} {state}" for state, count in now["worker_states"].items() if count) or "none"
    ever = f"{now['started']:,} started, {now['restarts']:,} restarts, {now['crashes']:,} crashes"
    return [
        ("tasks", ", ".join([f"{now['queued']:,} queued", f"{now['running']:,} running", *ended])),
        ("rate", "-" if rate is None else f"{rate:10,.1f}/s  {curve(rates)}"),
        ("busy", f"{busy:10.0%}    {'█' * round(busy * _WIDTH)}{'░' * (_WIDTH - round(busy * _WIDTH))}"),
        ("wait", _quantiles(now["wait"])),
        ("run", _quantiles(now["run"])),
        ("workers", f"{states}; {ever}"),
        ("bytes", f"{size(now['bytes_out'])} out, {size(now['bytes_in'])} in"),
    ]


def _quantiles(histogram: dict[str, float]) -> str:
    if not histogram["count"]:
        return "-"
    return ", ".join(f"{name} {duration(histogram[name])}" for name in ("p50", "p90", "p99", "max"))


def curve(rates: deque[float]) -> str:
    """A curve of rates, one character each."""
    most = max(rates, default=0.0)
    return "".join(_BARS[round(rate / most * (len(_BARS) - 1))] if most else _BARS[0] for rate in rates)


def _row(worker: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> tuple[str, ...]:
    rate = busy = "-"
    if before is not None and seconds > 0:
        rate = f"{max(0, worker['done'] - before['done']) / seconds:,.1f}"
        busy = f"{max(0.0, worker['busy_seconds'] - before['busy_seconds']) / seconds:.0%}"
    running = worker["running"]
    task = ""
    if running:
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        task = f"{printable(running[0]['task'])} for {duration(running[0]['seconds'])}{more}"
    return (
        str(worker["worker_id"]),
        str(worker["state"]),
        "-" if worker["pid"] is None else str(worker["pid"]),
        f"{worker['done']:,}",
        rate,
        busy,
        "-" if worker["rss"] is None else size(worker["rss"]),
        task,
    )
