"""The command line of ``offloop``: what is said there, and what ``--help`` says."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NoReturn

import offloop

_DESCRIPTION = """\
Run FUNCTION over every INPUT on a pool of workers, and write each result as
one line of JSON to standard output, in the order of the inputs.
"""

_EPILOG = """\
inputs:
  TEXT          passed to the function as a string
  @FILE         each line of FILE is an input (@@TEXT is the text @TEXT)
  -             each line of standard input is an input; so it is without INPUT

results:
  A value that JSON cannot express is written as the string of its repr().
  An input that fails leaves no line; "INPUT: ErrorType: message" goes to
  standard error, and the others go on.

exit status:
  0 all went well     1 some inputs failed     2 nothing could be run
  130 interrupted     141 standard output was closed early

examples:
  offloop map ./thumbs.py:shrink *.jpg --workers 4
  ls *.log | offloop map logs:count_errors --unordered --timeout 30
"""


class UsageError(Exception):
    """The command cannot begin, for the reason in this one line."""


class Options(argparse.Namespace):
    """What ``offloop map`` was asked to do."""

    target: str
    inputs: list[str]
    workers: int | None
    context: str
    unordered: bool
    timeout: float | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _positive_int(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value


def _command_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="offloop",
        usage="offloop [--help] [--version] COMMAND ...",
        description="True parallelism for Python functions.",
        epilog="commands:\n  map    run a function over many inputs (offloop map --help)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"offloop {offloop.__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=("map",), help="what to do; see below")
    return parser


def _map_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="offloop map",
        usage="offloop map [options] MODULE:FUNCTION [INPUT ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_map_arguments(parser)
    return parser


def _add_map_arguments(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("target", metavar="MODULE:FUNCTION", help="what to run; MODULE is a name or the path of a .py file")
    add("inputs", metavar="INPUT", nargs="*", default=[], help="see below")
    add("--workers", metavar="N", type=_positive_int, help="at most N workers (default: one per usable CPU)")
    add(
        "--context",
        choices=("process", "thread"),
        default="process",
        help="where workers live (default: %(default)s)",
    )
    add("--unordered", action="store_true", help="write results as they are ready")
    add("--timeout", metavar="S", type=_seconds, help="let an input fail after S seconds of running")


def parse(arguments: Sequence[str]) -> Options:
    """Parse the command line.

    Raises:
        SystemExit: 0 after ``--help`` or ``--version``; 2, with one line on
            stderr, if it is malformed.
    """
    # Not argparse's own subcommands: with them, options may not stand between positional arguments.
    _command_parser().parse_args(arguments[:1])
    return _map_parser().parse_intermixed_args(arguments[1:], namespace=Options())
