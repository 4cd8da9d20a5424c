"""What the commands' arguments have in common: the parser, the types of values, the error."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn


class UsageError(Exception):
    """The command cannot begin, or not go on, for the reason in this one line."""


class Parser(argparse.ArgumentParser):
    """The parser of one command: its texts keep their lines, and what is wrong is told in one line.

    Args:
        command: the words of the command, such as ``"offloop map"``.
        usage: what may follow them, such as ``"[options] INPUT ..."``.
        description: what ``--help`` says first.
        epilog: what it says last.
    """

    def __init__(self, command: str, *, usage: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=command,
            usage=f"{command} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an option that is added later must not change what a script says
        )

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong with the command line, in one line, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def positive_int(text: str) -> int:
    """The type of an option whose value is a whole number above 0."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return value


def seconds(text: str) -> float:
    """The type of an option whose value is a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value


def count(text: str) -> int:
    """The type of an option whose value is a whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, not {text!r}")
    return int(text)
