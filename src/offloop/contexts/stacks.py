"""A running worker's stack, as `faulthandler` writes it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

import offloop
from offloop.child.lastwords import DUMP
from offloop.shm.ledger import Ledger

#: Seconds between looks whether a stack was written, and how often to look.
LOOK, LOOKS = 0.02, 25

_LINE = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_OURS = os.path.dirname(offloop.__file__) + os.sep


async def dumped_stack(signal: Callable[[int], None], page: Callable[[], Ledger | None]) -> str:
    """Have a worker's stack written to its ledger, and take it from there.

    Nothing tells when it is written: so this looks for half a second, until a
    look finds what the one before found.

    Args:
        signal: sends the worker a signal.
        page: its ledger; None when the worker is gone.

    Returns:
        The stack as text; "" where there are no such signals, or no answer.
    """
    ledger = page()
    if not DUMP or ledger is None or not ledger.has_room_for_stack():
        return ""
    signal(DUMP)
    before = None
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK)
        if (ledger := page()) is None:
            return ""
        text = ledger.stack()
        if text is not None and text == before:
            break
        before = text
    return readable(ledger.take_stack())


def readable(text: str) -> str:
    """The user's part of such a stack, in the form and order of `traceback`."""
    lines = [(path, line, name) for path, line, name in _LINE.findall(text)][::-1]
    while lines and lines[-1][0].startswith(_OURS):
        lines.pop()
    begin = max((at for at, (path, _, _) in enumerate(lines) if path.startswith(_OURS)), default=-1) + 1
    return "".join(f'  File "{path}", line {line}, in {name}\n' for path, line, name in lines[begin:])
