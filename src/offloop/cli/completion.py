"""Completion for shells, made from the parsers of the commands: nothing is said twice."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from offloop.cli.commands import COMMANDS, load

#: What is completed as a file, going by its name in the help.
_FILES = {"FILE", "INPUT", "TRACE", "PROCESS"}
#: What is a Python file, or a module.
_PYTHON = "MODULE:FUNCTION"


class Argument(NamedTuple):
    """An option, or, without names, what stands by position.

    Attributes:
        names: its option strings.
        text: its help, in one line.
        value: the name of its value, or an empty string if it takes none.
        choices: the values there are, if they are few.
        many: whether it may be given again and again.
    """

    names: tuple[str, ...]
    text: str
    value: str
    choices: tuple[str, ...]
    many: bool

    @property
    def is_file(self) -> bool:
        """Whether its value is completed as a file's name."""
        return self.value in _FILES or self.value == _PYTHON


def arguments_of(parser: argparse.ArgumentParser) -> list[Argument]:
    """The arguments of a command, options first."""
    found = [_argument(action) for action in parser._actions if action.help != argparse.SUPPRESS]
    return sorted(found, key=lambda each: not each.names)


def _argument(action: argparse.Action) -> Argument:
    takes_value = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Argument(
        tuple(action.option_strings),
        " ".join((action.help or "").split()).replace("%(default)s", str(action.default)),
        metavar if takes_value else "",
        tuple(map(str, action.choices or ())) if takes_value else (),
        many=action.nargs in {"*", "+"},
    )


def script_for(shell: str) -> str:
    """The script that a shell has to run: ``bash``, ``zsh`` or ``fish``."""
    commands = {name: arguments_of(load(name).parser()) for name in COMMANDS}
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)
    return "".join(f"{line}\n" for line in lines)


Commands = dict[str, list[Argument]]


# bash: macOS has 3.2, which knows neither mapfile nor compopt.


def _bash(commands: Commands) -> Iterator[str]:
    yield from _BASH_HEAD
    yield f"        _offloop_words {shlex.join([*COMMANDS, '--help', '--version'])}; return"
    yield "    fi"
    yield '    case "${COMP_WORDS[1]}" in'
    for name, arguments in commands.items():
        yield f"    {name})"
        yield '        case "$previous" in'
        for each in arguments:
            if each.names and each.value:
                yield f"        {'|'.join(each.names)}) {_bash_value(each)}; return;;"
        yield "        esac"
        names = [each for argument in arguments for each in argument.names]
        yield f'        if [[ "$current" == -* ]]; then _offloop_words {shlex.join(names)}; return; fi'
        positional = [each for each in arguments if not each.names]
        yield f"        {_bash_value(positional[-1]) if positional else ':'};;"
    yield "    esac"
    yield "}"
    yield "complete -F _offloop offloop"


def _bash_value(argument: Argument) -> str:
    if argument.choices:
        return f"_offloop_words {shlex.join(argument.choices)}"
    return "_offloop_files" if argument.is_file else ":"


_BASH_HEAD = """\
_offloop_words() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$*" -- "$current"))
}
_offloop_files() {
    local IFS=$'\\n' at=
    # An input may be @FILE; in most settings, bash hands over what is behind the @.
    if [[ "$current" == @* ]]; then at=@; fi
    COMPREPLY=($(compgen -f -P "$at" -- "${current#@}"))
    compopt -o filenames 2>/dev/null
}
_offloop() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    COMPREPLY=()
    if [[ "$current" == = ]]; then current=; elif [[ "$previous" == = ]]; then
        previous="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    if [[ $COMP_CWORD == 1 ]]; then""".splitlines()


# zsh


def _zsh(commands: Commands) -> Iterator[str]:
    yield from _ZSH_HEAD
    for name, text in COMMANDS.items():
        yield f"            {_quoted(f'{name}:{text}')}"
    yield from _ZSH_MIDDLE
    for name, arguments in commands.items():
        yield f"        {name})"
        yield "            _arguments -s \\"
        positional = 0
        for each in arguments:
            positional += not each.names
            for spec in _zsh_specs(each, positional):
                yield f"                {_quoted(spec)} \\"
        yield "            ;;"
    yield from _ZSH_END


def _zsh_specs(argument: Argument, position: int) -> Iterator[str]:
    value = ""
    if argument.value:
        shown = argument.value.replace(":", "\\:")
        value = f":{shown}:{_zsh_action(argument)}"
    for name in argument.names:
        text = argument.text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        yield f"{name}{'=' if value and name.startswith('--') else ''}[{text}]{value}"
    if not argument.names:
        yield f"{'*' if argument.many else position}{value}"


def _zsh_action(argument: Argument) -> str:
    if argument.choices:
        return f"({' '.join(argument.choices)})"
    if argument.value == _PYTHON:
        return '_files -g "*.py"'
    return "_files" if argument.is_file else " "


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_ZSH_HEAD = """\
#compdef offloop
_offloop() {
    local context state state_descr line
    typeset -A opt_args
    _arguments -C '--help[show help]' '--version[show the version]' \\
        '1:command:->command' '*::argument:->argument'
    case $state in
    command)
        local -a commands
        commands=(""".splitlines()

_ZSH_MIDDLE = """\
        )
        _describe command commands;;
    argument)
        case $words[1] in""".splitlines()

_ZSH_END = """\
        esac;;
    esac
}
if [[ "$funcstack[1]" == _offloop ]]; then _offloop "$@"; else compdef _offloop offloop; fi""".splitlines()


# fish


def _fish(commands: Commands) -> Iterator[str]:
    yield "complete -c offloop -f"
    yield "complete -c offloop -n __fish_use_subcommand -l help -d 'show help'"
    yield "complete -c offloop -n __fish_use_subcommand -l version -d 'show the version'"
    for name, text in COMMANDS.items():
        yield f"complete -c offloop -n __fish_use_subcommand -a {name} -d {_fish_quoted(text)}"
    for name, arguments in commands.items():
        condition = f"complete -c offloop -n '__fish_seen_subcommand_from {name}'"
        lines = [f"{condition}{words}" for each in arguments for words in _fish_words(each)]
        yield from dict.fromkeys(lines)  # two positional arguments may be files


def _fish_words(argument: Argument) -> Iterator[str]:
    # Two names without a value may be opposites (--progress, --no-progress).
    alone = [(name,) for name in argument.names]
    for names in alone if alone and not argument.value else [argument.names]:
        yield _fish_argument(argument, names)


def _fish_argument(argument: Argument, names: tuple[str, ...]) -> str:
    words = [f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in names]
    if argument.choices:
        words.append(f" -a {_fish_quoted(' '.join(argument.choices))}")
    if argument.is_file:
        words.append(" -F")
    if argument.value and names:
        words.append(" -r" if argument.is_file else " -x")
    if argument.text and names:
        words.append(f" -d {_fish_quoted(argument.text)}")
    return "".join(words)


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
