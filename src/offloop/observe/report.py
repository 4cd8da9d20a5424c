"""A trace as one page of HTML that needs nothing else."""

from __future__ import annotations

import json
import os
from html import escape
from importlib.resources import files
from typing import Any

from offloop.observe.reading import read_trace
from offloop.observe.timeline import Timeline

#: The page's program, in the order in which its parts build on each other.
_SCRIPTS = ("data.js", "panels.js", "timeline.js", "overview.js", "main.js")


def write_report(trace: str | os.PathLike[str], page: str | os.PathLike[str]) -> None:
    """Make a page of HTML out of a trace: one file that needs nothing else.

    Args:
        trace: the path of what `Trace` wrote; its end may be missing.
        page: the path of the file to write, in place of one that is there.

    Raises:
        OSError: a file can't be read or written.
        ValueError: it is no trace, or nothing was recorded.

    It blocks, for about 3 s with a hundred thousand tasks.
    """
    html = report(Timeline(read_trace(trace)).to_dict(), os.path.basename(os.fspath(trace)))
    with open(page, "w", encoding="utf-8") as file:
        file.write(html)


def report(data: dict[str, Any], title: str) -> str:
    """The page; whatever stands in the data, none of it is taken for HTML."""
    page = _part("page.html")
    parts = {
        "TITLE": escape(title),
        "STYLE": _part("style.css"),
        "DATA": as_script_data(data),
        "SCRIPT": "\n".join(map(_part, _SCRIPTS)),
    }
    pieces: list[str] = []
    for at, piece in enumerate(page.split("%%")):  # not replace: the data may hold anything
        pieces.append(parts[piece] if at % 2 else piece)
    return "".join(pieces)


def as_script_data(data: object) -> str:
    """JSON in which nothing can end the ``script`` element that it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _part(name: str) -> str:
    return files("offloop.observe").joinpath("page", name).read_text("utf-8")
