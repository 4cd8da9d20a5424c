"""The ``offloop`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from offloop.cli.arguments import UsageError, parse

#: Exit statuses: some inputs failed; the command could not begin; ended by a
#: signal, as a shell reports it (128 + SIGINT, 128 + SIGPIPE).
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
    options = parse(sys.argv[1:] if arguments is None else arguments)
    from offloop.cli.run import run_map

    try:
        return run_map(options)
    except UsageError as error:
        print(f"offloop map: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("offloop map: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return PIPE_CLOSED


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
