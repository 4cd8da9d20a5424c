"""A progress bar on stderr: the one file that imports rich (extra ``cli``)."""

from __future__ import annotations

import os
import sys
from typing import IO, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("-/s" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class Bar:
    """Shows done, total, rate and time left; call it with ``(done, total)``.

    Use it as a context manager.  It redraws from its own thread, ten times a
    second, and is silent where stderr is no terminal.

    Args:
        title: short text at its left end.
        total: number of inputs, or None if that is not known.
        console: where to draw; by default stderr.
    """

    def __init__(self, title: str, total: int | None = None, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            # With these, rich would send what we write to stdout to stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def write(self, line: str, file: IO[str]) -> None:
        """Write a line to ``file``, above the bar where both show on one terminal."""
        if self._shares_terminal(file):
            self._console.out(line, highlight=False)
        else:
            file.write(line + "\n")
            file.flush()

    def _shares_terminal(self, file: IO[str]) -> bool:
        if file is sys.stderr:
            return self._console.is_terminal
        try:
            return file.isatty() and os.path.samestat(os.fstat(file.fileno()), os.fstat(2))
        except OSError:
            return False
