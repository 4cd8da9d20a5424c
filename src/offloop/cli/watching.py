"""Watch another process, through the socket on which it tells its statistics."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, cast

from offloop.cli.arguments import UsageError
from offloop.cli.stopping import Stopped, ended_by_signals
from offloop.observe.private import ask, default_folder, default_path
from offloop.observe.view import COLUMNS, View

_HOW = "(was it started with OFFLOOP_STATISTICS=1, by this user?)"


def watch(process: str | None, interval: float, *, once: bool, as_json: bool) -> int:
    """Show the statistics of another process until it ends, or once.

    Args:
        process: its process id, or the path of its socket; None for the only one there is.
        interval: seconds between two looks.
        once: show them once, as text.
        as_json: show them once, as JSON.

    Raises:
        UsageError: there is no such process, or it does not answer.
    """
    path = socket_of(process)
    try:
        found = _look(path)
    except OSError as error:
        raise UsageError(f"nobody tells statistics at {path}: {error.strerror or error} {_HOW}") from error
    if as_json:
        print(json.dumps(found))
        return 0
    watched = Watched(found)
    if once or not sys.stdout.isatty():
        print(watched.text())
        return 0
    return _follow(path, watched, interval)


def socket_of(process: str | None) -> str:
    """The path of a process's socket.

    Raises:
        UsageError: none was named, and there is none, or more than one.
    """
    if process is not None:
        return default_path(int(process)) if process.isascii() and process.isdigit() else process
    folder = default_folder()
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".sock"))
    except FileNotFoundError:
        names = []
    paths = [path for name in names if _is_answering(path := os.path.join(folder, name))]
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise UsageError(f"no process tells its statistics {_HOW}")
    pids = ", ".join(os.path.basename(path).removesuffix(".sock") for path in paths)
    raise UsageError(f"name one of these processes: {pids}")


def _is_answering(path: str) -> bool:
    try:
        return bool(ask(path))
    except OSError:
        return False


def _look(path: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(ask(path))
    except ValueError as error:
        raise OSError("what answers there is not offloop") from error
    if not isinstance(found, dict) or not isinstance(cast("dict[str, Any]", found).get("pools"), list):
        raise OSError("what answers there is not offloop")
    return cast("dict[str, Any]", found)


class Watched:
    """The views of a process's workers and pools."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._views: dict[int, View] = {}
        self._head = View()
        self.shown: list[View] = []
        self.update(found)

    def update(self, found: dict[str, Any]) -> None:
        """Take what the process has told."""
        pools: list[dict[str, Any]] = found["pools"]
        known, self._views = self._views, {}
        self._head.title = f"process {found['pid']}"
        self._head.lines = [("", "no worker or pool is in use")] if not pools else []
        for pool in pools:
            view = self._views[pool["id"]] = known.get(pool["id"]) or View("a pool")
            if "statistics" in pool:
                view.update(pool["statistics"], pool["name"])
            else:
                view.say(pool.get("error") or "its event loop is held up: it did not answer within a second")
        self.shown = [self._head, *self._views.values()]

    def text(self) -> str:
        """All of it as plain text."""
        return "\n\n".join(map(_as_text, self.shown))


def _as_text(view: View) -> str:
    lines = [view.title, *(f"{label:>8}  {text}" for label, text in view.lines)]
    if view.rows:
        table = [tuple(name.lower() for name in COLUMNS), *view.rows]
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        lines += ["  ".join(map(_padded, row, COLUMNS, widths)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


def _padded(cell: str, column: str, width: int) -> str:
    return cell.rjust(width) if column.isupper() else cell.ljust(width)


def _follow(path: str, watched: Watched, interval: float) -> int:
    try:
        from offloop.cli.bar import LiveViews
    except ImportError as error:
        raise UsageError("it needs the extra offloop[cli] (pip install 'offloop[cli]'), or --once") from error
    try:
        with ended_by_signals(), LiveViews(lambda: watched.shown, on_stdout=True):
            while True:
                time.sleep(interval)
                watched.update(_look(path))
    except KeyboardInterrupt:
        return 0
    except Stopped as stopped:
        return stopped.status
    except OSError:
        print("the process has ended, or tells no more")
        return 0
