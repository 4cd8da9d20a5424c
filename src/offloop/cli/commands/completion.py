"""``offloop completion``: what completes commands, options and files in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from offloop.cli.arguments import Parser

_DESCRIPTION = """\
Print what makes SHELL complete the commands and options of offloop.
"""

_EPILOG = """\
to have it in every shell from now on:
  bash   echo 'eval "$(offloop completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(offloop completion zsh)"' >> ~/.zshrc   (behind compinit)
  fish   offloop completion fish > ~/.config/fish/completions/offloop.fish
"""


class Options(argparse.Namespace):
    """What ``offloop completion`` was asked for."""

    shell: str


def parser() -> Parser:
    """The parser of its arguments."""
    made = Parser("offloop completion", usage="SHELL", description=_DESCRIPTION, epilog=_EPILOG)
    made.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    return made


def run(arguments: Sequence[str]) -> int:
    """Run the command; see `Command.run`."""
    options = parser().parse_args(arguments, namespace=Options())
    from offloop.cli.completion import script_for

    print(script_for(options.shell), end="")
    return 0
