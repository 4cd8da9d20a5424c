"""Descriptors 0 to 2, which some programs (daemons, as a rule) are started without."""

from __future__ import annotations

import os
import sys


def hold_standard_descriptors() -> None:
    """Have something open as descriptors 0 to 2, for as long as the process lives.

    Else what is opened later would get one of these numbers, and with it what
    tracebacks and the user's code print; and a socket that a worker is to
    inherit would be replaced there by the worker's own stdin.  What was closed
    stays of no use: nothing is to be read there, and writing to 1 is still an error.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest number that is free: this one.
            os.set_inheritable(os.open(os.devnull, mode), True)


def flush_standard_streams() -> None:
    """Have out what was printed, as far as that goes."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # there is none, or it is closed, or broken: nobody is left to be told


def leave_fork() -> None:
    """A task returned in a process that it forked as well, which has nothing more to do."""
    flush_standard_streams()
    os._exit(0)
