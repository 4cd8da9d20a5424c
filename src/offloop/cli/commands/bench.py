"""``offloop bench``: a quick measurement on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from offloop.cli.arguments import Parser, positive_int

_DESCRIPTION = """\
Measure offloop on this machine for a few seconds, beside ProcessPoolExecutor
with its default start method. Nothing else should be busy meanwhile; even so,
figures of a run of seconds vary by a fifth or so.
"""


class Options(argparse.Namespace):
    """What ``offloop bench`` was asked to do."""

    workers: int | None


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser("offloop bench", usage="[--workers N]", description=_DESCRIPTION)
    made.add_argument(
        "--workers", metavar="N", type=positive_int, help="N workers (default: one per usable CPU)"
    )
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    options = parser().parse_args(arguments, namespace=Options())
    from offloop.cli.bench import measure

    return measure(options.workers)
