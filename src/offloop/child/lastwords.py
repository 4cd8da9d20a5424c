"""What a dying worker leaves for the crash report: its stack, and the end of its stderr."""

from __future__ import annotations

import faulthandler
import io
import os
import sys

from offloop.shm.ledger import JOURNAL_END, Ledger

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def keep_last_words(ledger: Ledger, fd: int) -> None:
    """From now on have them written to the ledger, which survives this process.

    Args:
        ledger: the page shared with the parent.
        fd: its descriptor, which stays open: faulthandler writes to it when a fatal signal comes.
    """
    os.lseek(fd, JOURNAL_END, os.SEEK_SET)
    faulthandler.enable(fd)
    raw: Any = _Tee(ledger)
    sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True, write_through=True)


class _Tee(io.FileIO):
    """The descriptor of stderr; what Python code writes to it is also kept in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(2, "w", closefd=False)
        self._ledger = ledger

    def write(self, data: Any, /) -> int:
        self._ledger.say(bytes(data))
        return super().write(data) or 0
