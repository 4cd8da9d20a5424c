"""Reads a trace back, whole or cut off."""

from __future__ import annotations

import json
import os
from typing import Any, cast

Event = dict[str, Any]


class TraceError(ValueError):
    """What was to be read is no trace, for the reason in this one line."""


def read_trace(path: str | os.PathLike[str]) -> list[Event]:
    """The events of a trace, in the order in which they were written.

    The end may be missing, as after the program was killed: what was written last and is
    incomplete is left out.

    Raises:
        OSError: the file can't be read.
        TraceError: it is no trace.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        events: Any = json.loads(text)
    except ValueError:
        events = _complete_lines(text)
    if isinstance(events, dict):  # as Chrome itself writes it
        events = cast("Event", events).get("traceEvents")
    found: list[Any] = events if hasattr(events, "append") else [None]
    if not all(map(_is_event, found)):
        raise TraceError(f"{os.fspath(path)!r} is no trace: it is not an array of events")
    return found


def _is_event(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    found = cast("Event", event)
    return isinstance(found.get("ph"), str) and isinstance(found.get("ts", 0), (int, float))


def _complete_lines(text: str) -> list[Any] | None:
    """The events of an array that is cut off, one a line; None if it is something else."""
    first, _, rest = text.partition("\n")
    if first.strip() not in ("", "["):
        return None
    lines = rest.split("\n")
    events: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            if line := line.strip().rstrip(","):
                events.append(json.loads(line))
        except ValueError:
            if number < len(lines) - (lines[-1] == ""):
                return None
    return events
