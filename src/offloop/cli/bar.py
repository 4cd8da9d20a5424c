"""Progress bars and live views on a terminal: the one file that imports rich (extra ``cli``)."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
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
from rich.table import Table
from rich.text import Text

from offloop.observe.view import COLUMNS, View

if TYPE_CHECKING:
    from offloop.cli.results import LineFile


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("-/s" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class NotebookCell:
    """One output of a notebook's cell, which is replaced each time.

    Rich's own way needs ``ipywidgets``; this needs only what every notebook has.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: RenderableType) -> None:
        """Show this in place of what was shown before."""
        display = importlib.import_module("IPython.display").display  # no dependency: there in a notebook

        text = io.StringIO()
        Console(file=text, width=100, force_jupyter=False).print(content)
        data = {"text/plain": text.getvalue().rstrip()}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


class Bar:
    """Shows done, total, rate and time left; call it with ``(done, total)``.

    Use it as a context manager.  On a terminal it redraws from its own thread,
    ten times a second; in a notebook with each call; elsewhere it is silent.

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
        self._cell = NotebookCell() if self._console.is_jupyter else None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)
        if self._cell is not None:
            self._cell.show(self._progress.get_renderable())

    def tell(self, text: str) -> None:
        """Write to the console, above the bar."""
        self._console.out(text, highlight=False)

    def put(self, line: str, file: LineFile) -> None:
        """Write a line to a file, above the bar where both show on one terminal."""
        if self._shares_terminal(file.fileno()):
            self._console.out(line, highlight=False)
        else:
            file.write_line(line)

    def _shares_terminal(self, descriptor: int) -> bool:
        return os.isatty(descriptor) and os.path.samestat(os.fstat(descriptor), os.fstat(2))


class LiveViews:
    """Redraws views four times a second, from its own thread; silent where there is no terminal.

    Args:
        views: what to draw, asked for each time.
        console: where to draw; by default stderr.
        on_stdout: draw on the whole screen of stdout instead, as a program that does nothing else may.
    """

    def __init__(
        self, views: Callable[[], Sequence[View]], console: Console | None = None, *, on_stdout: bool = False
    ) -> None:
        self._views = views
        self._console = console or Console(stderr=not on_stdout)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=4,
            screen=on_stdout,
            # What the program prints goes above the view, but a file stays a file.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        return Group(*map(draw, self._views()))


_COLOURS = {"busy": "green", "idle": "dim", "starting": "yellow", "retiring": "magenta"}


def draw(view: View) -> RenderableType:
    """A view; no text in it is taken for markup."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", justify="right")
    head.add_column()
    for label, text in view.lines:
        head.add_row(Text(label), Text(text))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in COLUMNS:
        table.add_column(Text(name.lower()), justify="right" if name.isupper() else "left", no_wrap=True)
    for row in view.rows:
        table.add_row(*map(Text, row), style=_COLOURS.get(row[1]))
    parts: list[RenderableType] = [Text(view.title, style="bold"), head]
    return Group(*parts, Text(""), table) if view.rows else Group(*parts)
