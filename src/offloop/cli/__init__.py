"""The ``offloop`` command.

Workers import a module of this package (``calls``), so that this one imports
nothing heavy at its top.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offloop.cli.arguments import Parser

#: Exit statuses: some inputs failed; the command could not begin or go on; ended
#: by a signal, as a shell reports it (128 + SIGINT, 128 + SIGPIPE).
FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``offloop`` command.

    Args:
        arguments: the command line without the program's name; by default
            this process's own.

    Returns:
        The exit status: 0, or one of the constants above.

    Raises:
        SystemExit: after ``--help``, ``--version`` or a malformed command line.
    """
    from offloop.cli.arguments import UsageError
    from offloop.cli.commands import load

    if arguments is None:
        arguments = sys.argv[1:]
    _open_standard_files()
    # Not argparse's own subcommands: with them, options may not stand between positional arguments.
    name: str = parser().parse_args(arguments[:1]).command
    try:
        return load(name).run(arguments[1:])
    except UsageError as error:
        print(f"offloop {name}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"offloop {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return PIPE_CLOSED


def parser() -> Parser:
    """The parser of the first argument, which is a command, ``--help`` or ``--version``."""
    import argparse

    import offloop
    from offloop.cli.arguments import Parser
    from offloop.cli.commands import COMMANDS

    width = max(map(len, COMMANDS)) + 4
    lines = [f"  {name:{width}}{text}" for name, text in COMMANDS.items()]
    made = Parser(
        "offloop",
        usage="[--help] [--version] COMMAND ...",
        description="\n".join(["True parallelism for Python functions.", "", "commands:", *lines]),
        epilog="offloop COMMAND --help tells more of each.",
    )
    made.add_argument("--version", action="version", version=f"offloop {offloop.__version__}")
    made.add_argument("command", metavar="COMMAND", choices=tuple(COMMANDS), help=argparse.SUPPRESS)
    return made


def _open_standard_files() -> None:
    """Have something open where the command was started without it; results to a closed stdout are errors."""
    from offloop.child.standard import hold_standard_descriptors

    hold_standard_descriptors()
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
