"""Evidence that the kernel's out-of-memory killer ended a worker: the kernel counts whom it kills.

A worker that dies by SIGKILL cannot say why.  But the kernel counts its victims
for each control group, and once for the whole machine; a counter that has risen
since the last look speaks for the OOM killer, and one that has not, against it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from signal import SIGKILL
from time import monotonic

from offloop.cgroups import Root, groups, read

#: Where ``proc`` and ``sys`` are mounted.
ROOT = "/"
#: Seconds for which several victims counted at one look are put down to workers found dead.
TOGETHER = 5.0


class OomWatch:
    """Watches the kernel's counter of OOM victims, by reading it now and whenever `check` is called.

    A victim is put down to one worker only: when two workers die and the counter
    rose once, the second one gets no evidence.  It costs a few small reads.

    Args:
        root: where ``proc`` and ``sys`` are mounted; `ROOT` by default.
        clock: returns seconds, and never goes backwards.
    """

    def __init__(self, root: Root | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._root = ROOT if root is None else root
        self._clock = clock
        self._count = victims(self._root)
        self._unclaimed, self._until = 0, 0.0

    def verdict(self, code: int | None, *, asked: bool) -> bool | None:
        """Whether the OOM killer ended a worker.

        Args:
            code: the exit status, or minus the signal's number, or None if unknown.
            asked: whether it was killed from here.

        Returns:
            False unless SIGKILL ended it, of somebody else's accord; then as `check`.
        """
        if code is None:
            return None
        return self.check() if code == -SIGKILL and not asked else False

    def check(self) -> bool | None:
        """Whether the OOM killer is to blame for a worker that has just died by SIGKILL.

        Returns:
            True if it killed somebody since the last look, False if not; None
            where the kernel's counters can't be read.
        """
        count, before = victims(self._root), self._count
        self._count = count
        if count is None or before is None:
            return None
        now = self._clock()
        if count > before:
            self._unclaimed, self._until = count - before, now + TOGETHER
        elif now > self._until:
            self._unclaimed = 0
        if not self._unclaimed:
            return False
        self._unclaimed -= 1
        return True


def victims(root: Root) -> int | None:
    """How many processes the OOM killer has killed here, or None where nothing tells.

    The counter of this process's own control group counts each member that any
    OOM killer took, also for a limit that is set higher up or for the machine;
    so the nearest group that can be read is the most exact.  Without one the
    machine's counter is taken, which counts everybody.
    """
    for file in _counters(root):
        try:
            words = read(file).split()
            return int(words[words.index("oom_kill") + 1])
        except (OSError, ValueError, IndexError):
            continue
    return None


def _counters(root: Root) -> Iterator[str]:
    """The files that may hold the counter, the most exact first."""
    for unified, folder in groups(root, "memory"):
        yield f"{folder}/{'memory.events' if unified else 'memory.oom_control'}"
    yield os.path.join(root, "proc/vmstat")
