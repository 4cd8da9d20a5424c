"""``offloop doctor``: what this machine and this Python offer."""

from __future__ import annotations

from collections.abc import Sequence

from offloop.cli.arguments import Parser
from offloop.cli.clusters import cluster_address

_DESCRIPTION = """\
Try what offloop needs on this machine, with this Python, and say in a line
each how it stands. It takes a second or two, and leaves nothing behind.
With --cluster, try a worker there, too.
"""

_EPILOG = """\
verdicts:
  ok      it works, or is as it should be
  note    it works, and could be better for the reason given
  none    it is not there, and nothing else needs it
  FAIL    it should work and does not

exit status:
  0 nothing failed     1 something failed
"""


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser(
        "offloop doctor", usage="[--help] [--cluster ADDRESS]", description=_DESCRIPTION, epilog=_EPILOG
    )
    made.add_argument(
        "--cluster",
        metavar="ADDRESS",
        type=cluster_address,
        help="ray://HOST:PORT, or ray for the one that this machine is part of; tcp://HOST:PORT of a Dask "
        "scheduler",
    )
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    cluster: str | None = parser().parse_args(arguments).cluster
    from offloop.cli.doctor import examine

    return examine(cluster)
