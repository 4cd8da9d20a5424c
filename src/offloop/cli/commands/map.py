"""``offloop map``: a function over many inputs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from offloop.cli.arguments import Parser, UsageError, count, positive_int, seconds
from offloop.cli.clusters import cluster_address
from offloop.contexts import CONTEXTS

_DESCRIPTION = """\
Run FUNCTION over every INPUT on a pool of workers, and write each result as
one line of JSON to standard output, in the order of the inputs.
"""

_EPILOG = """\
what is run:
  MODULE is a name, found as `python -m` finds it, or the path of a .py file.
  FUNCTION may be a coroutine function, a generator function (its result is the
  list of what it yields), Class.method, or a class of offloop tasks.

results:
  A value that JSON cannot express, NaN as well, is written as the string of its
  repr(), in its own place.
  An input that fails leaves no line; "INPUT: ErrorType: message" goes to
  standard error, and the others go on. What FUNCTION prints goes there, too,
  unless results go to a file.

after an interruption:
  Results that are written to --output FILE are safe from then on, even if
  everything is killed. The same command with --resume runs what is not in FILE:
  inputs that were not reached, and those that failed. It can be given at once.

exit status:
  0 all went well     1 some inputs failed     2 could not begin or go on
  130 interrupted     141 standard output was closed early

examples:
  offloop map ./thumbs.py:shrink *.jpg --workers 4
  ls *.log | offloop map logs:count_errors --unordered --timeout 30
  find . -name '*.png' -print0 | offloop map pics:size -0 --output sizes.jsonl
  offloop map ./thumbs.py:shrink *.jpg --trace run.json && offloop report run.json
  offloop map shop:price --jsonl @orders.jsonl --output prices.jsonl --resume
  offloop map ./thumbs.py:shrink @paths.txt --cluster tcp://10.0.0.1:8786
"""


class Options(argparse.Namespace):
    """What ``offloop map`` was asked to do.

    Attributes:
        arguments: its command line, as it was given.
    """

    arguments: Sequence[str]
    target: str
    inputs: list[str]
    jsonl: bool
    null: bool
    workers: int | None
    context: str
    cluster: str | None
    timeout: float | None
    retries: int
    fail_fast: bool
    traceback: bool
    output: str | None
    resume: bool
    unordered: bool
    with_input: bool
    progress: bool | None
    trace: str | None


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser(
        "offloop map",
        usage="[options] MODULE:FUNCTION [INPUT ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    made.add_argument("target", metavar="MODULE:FUNCTION", help="what to run, see below")
    _add_inputs(made)
    _add_workers(made)
    _add_failures(made)
    _add_results(made)
    # Beside an option -0, argparse takes all negative numbers for options, and not for inputs.
    made._has_negative_number_optionals.clear()
    return made


def _add_inputs(made: Parser) -> None:
    group = made.add_argument_group("inputs")
    group.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="*",
        default=[],
        help="a text that is passed as a string; or @FILE: each line of it is an input (@@TEXT is the text "
        "@TEXT); or -: each line of standard input, as it is without any INPUT",
    )
    group.add_argument(
        "--jsonl",
        action="store_true",
        help="inputs are JSON: an object's fields become keyword arguments, any other value is the argument",
    )
    group.add_argument(
        "-0", "--null", action="store_true", help="files and standard input have a NUL after each input"
    )


def _add_workers(made: Parser) -> None:
    add = made.add_argument_group("workers").add_argument
    add("--workers", metavar="N", type=positive_int, help="at most N workers (default: one per usable CPU)")
    add(
        "--context",
        choices=tuple(CONTEXTS),
        default="process",
        help="where workers live (default: %(default)s)",
    )
    add(
        "--cluster",
        metavar="ADDRESS",
        type=cluster_address,
        help="workers on a cluster: ray://HOST:PORT, or ray for the one that this machine is part of; "
        "tcp://HOST:PORT of a Dask scheduler (default number: one per CPU there)",
    )


def _add_failures(made: Parser) -> None:
    group = made.add_argument_group("failures")
    group.add_argument(
        "--timeout", metavar="S", type=seconds, help="an input fails after S seconds of running"
    )
    group.add_argument(
        "--retries", metavar="N", type=count, default=0, help="try an input that fails up to N times again"
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    either.add_argument(
        "--keep-going",
        dest="fail_fast",
        action="store_false",
        help="run the other inputs all the same (default)",
    )
    group.add_argument("--traceback", action="store_true", help="show where each failure happened")


def _add_results(made: Parser) -> None:
    add = made.add_argument_group("results").add_argument
    add(
        "--output",
        metavar="FILE",
        help='append each result to FILE, as {"input": ..., "result": ...}',
    )
    add("--resume", action="store_true", help="leave out the inputs whose results are in FILE already")
    add("--unordered", action="store_true", help="write results as they are ready")
    add("--with-input", action="store_true", help="write such records to standard output, too")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show progress on standard error (default: as a bar, if that is a terminal)",
    )
    add("--trace", metavar="FILE", help="record every task and worker in FILE, for `offloop report FILE`")


def parse(arguments: Sequence[str]) -> Options:
    """The options in these arguments; see `Command.run` for what is raised."""
    # Options may stand between positional arguments.
    options = parser().parse_intermixed_args(arguments, namespace=Options())
    options.arguments = arguments
    if options.resume and options.output is None:
        raise UsageError("--resume needs --output FILE")
    if options.cluster is not None and options.context != "process":
        raise UsageError("--cluster and --context exclude each other")
    return options


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    options = parse(arguments)
    from offloop.cli.run import run_map

    return run_map(options)
