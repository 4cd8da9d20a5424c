"""The lines of a trace: Chrome's trace event format, which Perfetto and ``chrome://tracing`` show.

A trace is a JSON array with one event a line.  The format lets the end of the
array be missing, so what a program that was killed had written can be read.
Times are microseconds of the monotonic clock.
"""

from __future__ import annotations

import json
from typing import Any

#: How a trace begins and ends.  The last event has no comma behind it.
BEGIN, END = "[\n", "\n]\n"
#: The lane of what no worker ran.
QUEUE = 0

_quote = json.encoder.encode_basestring_ascii


def task_line(
    pid: int, lane: int, name: str, start: float, end: float, id: int, queued: float, outcome: str, more: str
) -> str:
    """A task that ran; ``name`` is quoted already, times are seconds, ``more`` comes from `details`."""
    return (
        f'{{"ph":"X","cat":"task","pid":{pid},"tid":{lane},"name":{name},"ts":{start * 1e6:.2f},'
        f'"dur":{(end - start) * 1e6:.2f},"args":{{"id":{id},"queued":{queued * 1e6:.2f},'
        f'"outcome":"{outcome}"{more}}}}},\n'
    )


def unrun_line(
    pid: int, name: str, at: float, id: int, queued: float, outcome: str, more: str
) -> str:  # same order as above
    """A task that ended without having run."""
    return (
        f'{{"ph":"i","s":"t","cat":"task","pid":{pid},"tid":{QUEUE},"name":{name},"ts":{at * 1e6:.2f},'
        f'"args":{{"id":{id},"queued":{queued * 1e6:.2f},"outcome":"{outcome}"{more}}}}},\n'
    )


def event_line(ph: str, name: str, pid: int, lane: int, at: float, args: dict[str, Any], **more: Any) -> str:
    """Any other event; ``at`` and a ``dur`` among the rest are seconds."""
    if "dur" in more:
        more["dur"] = round(more["dur"] * 1e6, 2)
    event = {"ph": ph, "cat": "worker", "pid": pid, "tid": lane, "name": name, "ts": round(at * 1e6, 2)}
    return json.dumps({**event, **more, "args": args}, separators=(",", ":")) + ",\n"


def lane_lines(pid: int, lane: int, name: str, order: int, args: dict[str, Any]) -> str:
    """A lane's name, and its place among the others."""
    return event_line("M", "thread_name", pid, lane, 0, {"name": name, **args}) + event_line(
        "M", "thread_sort_index", pid, lane, 0, {"sort_index": order}
    )


def details(**values: Any) -> str:
    """More arguments of a task, those that are known."""
    return "".join(
        f',"{name}":{_quote(value) if isinstance(value, str) else value}'
        for name, value in values.items()
        if value is not None
    )


quote = _quote
