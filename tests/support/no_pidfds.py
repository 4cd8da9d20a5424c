"""Preloaded into a template: the system knows of no pidfds, which Python does."""

from __future__ import annotations

import errno
import os

#: Says so.
VARIABLE = "OFFLOOP_TEST_NO_PIDFDS"


def refuse(*_: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


if VARIABLE in os.environ:  # not in the test's own process, which imports this as well
    os.pidfd_open = refuse
