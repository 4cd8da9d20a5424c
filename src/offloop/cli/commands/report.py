"""``offloop report``: a trace as a page of HTML."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from offloop.cli.arguments import Parser, UsageError

_DESCRIPTION = """\
Make a page of HTML out of a TRACE that offloop map --trace FILE or
pool.trace(path) has recorded: a timeline with a lane for each worker, how busy
they were, how long tasks ran and waited, the slowest, and what went wrong.
The page is one file that needs nothing else, and works offline.
"""

_EPILOG = """\
A trace whose program was killed, or still runs, is shown as far as it goes.

examples:
  offloop map ./thumbs.py:shrink *.jpg --trace run.json > results.jsonl
  offloop report run.json --open
"""


class Options(argparse.Namespace):
    """What ``offloop report`` was asked to do."""

    trace: str
    output: str | None
    open: bool


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser("offloop report", usage="[options] TRACE", description=_DESCRIPTION, epilog=_EPILOG)
    add = made.add_argument
    add("trace", metavar="TRACE", help="the file that was recorded")
    add(
        "--output",
        "-o",
        metavar="FILE",
        help="where to write the page (default: TRACE with .html at its end)",
    )
    add("--open", action="store_true", help="show it in a browser")
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    options = parser().parse_args(arguments, namespace=Options())
    from offloop.observe.reading import TraceError
    from offloop.observe.report import write_report

    page = options.output or os.path.splitext(options.trace)[0] + ".html"
    try:
        if os.path.exists(page) and os.path.samefile(page, options.trace):
            raise UsageError("the page would replace the trace: name another file with --output")
        write_report(options.trace, page)
    except (OSError, TraceError) as error:
        raise UsageError(_text(error)) from error
    print(page)
    if options.open:
        import webbrowser
        from pathlib import Path

        webbrowser.open(Path(page).resolve().as_uri())
    return 0


def _text(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
