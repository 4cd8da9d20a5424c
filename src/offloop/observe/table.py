"""Statistics as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offloop.observe.meter import OUTCOMES

if TYPE_CHECKING:
    from offloop.observe.histogram import Histogram
    from offloop.observe.statistics import Statistics, WorkerStatistics

_COLUMNS = "{:>6}  {:<8} {:>8} {:>8} {:>6} {:>9}  {}"


def table(statistics: Statistics) -> str:
    """A few lines, and one for each worker."""
    s = statistics
    ended = [f"{getattr(s, name):,} {name.replace('_', ' ')}" for name in OUTCOMES if getattr(s, name)]
    states = [f"{count} {state}" for state, count in s.worker_states.items() if count]
    workers = f"{len(s.workers)} ({', '.join(states)})" if states else "0"
    lines = [
        f"tasks    {s.submitted:,}: "
        + ", ".join([f"{s.queued:,} queued", f"{s.sent:,} sent", f"{s.running:,} running", *ended]),
        f"wait     {_durations(s.wait)}",
        f"run      {_durations(s.run)}",
        f"context  {s.context}",
        f"workers  {workers}: {s.started:,} started, {s.restarts:,} restarts, {s.crashes:,} crashes",
        f"busy     {s.busy_fraction:.0%} of the workers' time",
        f"bytes    {size(s.bytes_out)} out, {size(s.bytes_in)} in",
    ]
    if s.workers:
        lines += ["", _COLUMNS.format("worker", "state", "pid", "done", "sent", "memory", "current task")]
        lines += map(_row, s.workers)
    return "\n".join(line.rstrip() for line in lines)


def _row(worker: WorkerStatistics) -> str:
    current = ""
    if worker.running:
        name, seconds = worker.running[0]
        more = f" and {len(worker.running) - 1} more" if len(worker.running) > 1 else ""
        current = f"{printable(name)} for {duration(seconds)}{more}"
    pid = "-" if worker.pid is None else str(worker.pid)
    rss = "-" if worker.rss is None else size(worker.rss)
    return _COLUMNS.format(worker.worker_id, worker.state, pid, f"{worker.done:,}", worker.sent, rss, current)


def _durations(histogram: Histogram) -> str:
    if not histogram.count:
        return "-"
    names = ("p50", "p90", "p99", "max")
    return ", ".join(f"{name} {duration(getattr(histogram, name))}" for name in names)


def printable(text: str) -> str:
    """A user's text on one line of a terminal: its ``repr`` may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)


def duration(seconds: float) -> str:
    """Such as ``1.5 ms``."""
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.1f} µs"


def size(count: float) -> str:
    """Such as ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
