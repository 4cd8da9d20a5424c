"""``offloop top``: the workers of a running program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from offloop.cli.arguments import Parser, seconds

_DESCRIPTION = """\
Show what the workers and pools of a running program do: what each worker runs
and for how long, how many tasks wait, how many end in a second, and how long
they took.  Ctrl-C ends it, and does nothing to the program.
"""

_EPILOG = """\
The program has to allow it, for nothing listens otherwise: with the environment
variable OFFLOOP_STATISTICS=1, or by a call of offloop.serve_statistics().  Only
programs of the same user can be watched.

Without PROCESS it shows the program that can be watched, or lists them if there
are several.  Where standard output is no terminal it shows the state once.

examples:
  OFFLOOP_STATISTICS=1 python service.py &
  offloop top $!
"""


class Options(argparse.Namespace):
    """What ``offloop top`` was asked to do."""

    process: str | None
    interval: float
    once: bool
    json: bool


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser("offloop top", usage="[options] [PROCESS]", description=_DESCRIPTION, epilog=_EPILOG)
    add = made.add_argument
    add("process", metavar="PROCESS", nargs="?", help="a process id, or the path of its socket")
    add("--interval", metavar="S", type=seconds, default=1.0, help="look every S seconds (default: 1)")
    add("--once", action="store_true", help="show the state once, as text")
    add("--json", action="store_true", help="write the state once, as a line of JSON")
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    options = parser().parse_args(arguments, namespace=Options())
    from offloop.cli.watching import watch

    return watch(options.process, options.interval, once=options.once, as_json=options.json)
