"""Preloaded into a template: as long as a file exists, this user has too many processes to fork another."""

from __future__ import annotations

import errno
import os

#: Names the file.
VARIABLE = "OFFLOOP_TEST_NO_FORKS"

_fork = os.fork


def _refuse_or_fork() -> int:
    if os.path.exists(os.environ[VARIABLE]):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return _fork()


if VARIABLE in os.environ:  # not in the test's own process, which imports this as well
    os.fork = _refuse_or_fork
