"""The ``offloop`` command.

Workers import a module of this package (``calls``), so that this one imports
nothing heavy at its top.
"""

from __future__ import annotations

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
    from offloop.cli.standard import standard_files

    with standard_files():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    from offloop.cli.arguments import UsageError
    from offloop.cli.standard import wait_no_more

    called = " ".join(["offloop", *arguments[:1]])
    try:
        return _run(arguments)
    except UsageError as error:
        from offloop.cli.failures import printable

        print(f"{called}: {printable(str(error))}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        wait_no_more()
        print(f"{called}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED


def _run(arguments: Sequence[str]) -> int:
    from offloop.cli.commands import load

    try:
        # Not argparse's own subcommands: with them, options may not stand between positional arguments.
        name: str = parser().parse_args(arguments[:1]).command
        return load(name).run(arguments[1:])
    finally:
        sys.stdout.flush()  # here, where it can be told that this fails


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
