"""What runs inside a worker."""

from __future__ import annotations

import os

#: Names the step at which a process is to die, for tests: see `offloop.child.killpoints`.
KILL_AT = "OFFLOOP_KILL_AT"


def install_kill_points(*kinds: str) -> None:
    """Where a test wants a process of one of these kinds to die at some step, prepare for it."""
    if KILL_AT in os.environ:
        from offloop.child.killpoints import install

        install(*kinds)
