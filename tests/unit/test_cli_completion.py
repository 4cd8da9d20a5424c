"""``offloop completion``: in the shells that are here, and what it says of the commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from offloop.cli import main
from offloop.cli.commands import COMMANDS, load
from offloop.cli.completion import arguments_of, script_for

SHELLS = ["bash", "zsh", "fish"]

TRY_IN_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_offloop
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("inputs.txt", "in two words", "work.py"):
        (tmp_path / name).touch()
    for shell in SHELLS:
        (tmp_path / f"offloop.{shell}").write_text(script_for(shell))


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")


def output_of(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return sorted(filter(None, done.stdout.splitlines()))


CASES = [
    (["ma"], ["map"]),
    (["map", "--cont"], ["--context"]),
    (["map", "--context", "pro"], ["process"]),
    (["map", "f", "--output", "in"], ["in two words", "inputs.txt"]),
    (["map", "work.py:f", "in"], ["in two words", "inputs.txt"]),
    (["map", "w"], ["work.py"]),
    (["completion", ""], ["bash", "fish", "zsh"]),
    (["doctor", ""], []),
    (["map", "f", "--workers", ""], []),
]


@pytest.mark.parametrize(("words", "completions"), CASES)
def test_bash(words: list[str], completions: list[str]) -> None:
    need("bash")
    assert output_of("bash", "-c", TRY_IN_BASH, "-", "offloop.bash", "offloop", *words) == completions


@pytest.mark.parametrize(
    ("words", "completions"),
    [(["map", "--context", "=", "pro"], ["process"]), (["map", "f", "@inp"], ["@inputs.txt"])],
)
def test_bash_with_words_that_it_splits(words: list[str], completions: list[str]) -> None:
    need("bash")
    assert output_of("bash", "-c", TRY_IN_BASH, "-", "offloop.bash", "offloop", *words) == completions


@pytest.mark.parametrize(("words", "completions"), CASES)
def test_fish(words: list[str], completions: list[str]) -> None:
    need("fish")
    line = " ".join(["offloop", *words])
    found = output_of("fish", "--no-config", "-c", f"source offloop.fish; complete -C '{line}'")
    assert [each.split("\t")[0].replace("\\ ", " ") for each in found] == completions


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_can_read_its_script(shell: str) -> None:
    need(shell)
    assert output_of(shell, "-n", f"offloop.{shell}") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script == script_for(shell)
    for command in COMMANDS:
        assert command in script
        for argument in arguments_of(load(command).parser()):
            for name in argument.names:
                assert name.lstrip("-") in script


def test_another_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "csh"])
    assert "invalid choice: 'csh'" in capsys.readouterr().err
