"""The progress bar: on a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import io
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from offloop.cli.bar import Bar
from offloop.cli.results import LineFile


def test_the_bar_shows_what_is_done_and_leaves_lines_for_files_to_them(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, _environ={})
    with (
        open(tmp_path / "file", "wb") as file,
        closing(LineFile(file.fileno(), "file")) as lines,
        Bar("cli_work:double", 20, console) as bar,
    ):
        bar(7)
        bar.put("[1, 2]", lines)
        bar.tell("x: ValueError: [bold]no[/bold]")
    assert (tmp_path / "file").read_text() == "[1, 2]\n"
    assert "7/20" in screen.getvalue()
    assert "[1, 2]" not in screen.getvalue()
    assert "x: ValueError: [bold]no[/bold]\n" in screen.getvalue()


class FakeDisplay:
    """What IPython's ``display`` shows: one text for each output of the cell."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        shown = [data["text/plain"]]
        self.outputs.append(shown)
        return SimpleNamespace(update=lambda data, *, raw: shown.append(data["text/plain"]))


def test_in_a_notebook_the_bar_is_one_output_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = FakeDisplay()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    screen = io.StringIO()
    with Bar("squares", 20, Console(file=screen, force_jupyter=True, _environ={})) as bar:
        bar(7, 20)
        bar(20, 20)
    (shown,) = notebook.outputs
    assert ["squares" in text for text in shown] == [True, True]
    assert "7/20" in shown[0]
    assert "20/20" in shown[1]
    assert screen.getvalue() == ""


def test_the_bar_is_silent_without_a_terminal() -> None:
    screen = io.StringIO()
    with Bar("cli_work:double", 20, Console(file=screen, _environ={})) as bar:
        bar(7, 20)
    assert screen.getvalue() == ""
