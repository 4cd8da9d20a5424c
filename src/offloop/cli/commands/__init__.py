"""The commands of ``offloop``; a new one is one new module here and one line in the table."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from offloop.cli.arguments import Parser

#: The name of a command, which is that of its module, and what ``offloop --help`` says of it.
COMMANDS = {
    "map": "run a function over many inputs",
    "report": "make a page of HTML out of a trace",
    "top": "watch the workers of a running program",
    "bench": "measure offloop here, beside ProcessPoolExecutor",
    "doctor": "see what this machine and this Python offer",
    "completion": "print what completes all this in a shell",
}


class Command(Protocol):
    """What the module of a command has.

    Only the module of the command that is run is imported; ``offloop
    completion`` imports them all.  So it imports at its top only what its
    parser needs.
    """

    def parser(self) -> Parser:
        """The parser of its arguments."""
        ...

    def run(self, arguments: Sequence[str]) -> int:
        """Parse these arguments and carry the command out.

        Returns:
            The exit status.

        Raises:
            SystemExit: after ``--help``; 2, with one line on stderr, if the arguments are malformed.
            UsageError: the command cannot begin.  ``main`` tells why, as it ends
                quietly on `KeyboardInterrupt` and `BrokenPipeError`.
        """
        ...


def load(name: str) -> Command:
    """The module of a command in the table."""
    return cast("Command", import_module(f"{__name__}.{name}"))
