"""Whether errors, logs and statistics are to show no arguments of tasks."""

from __future__ import annotations

import os


def hides_arguments() -> bool:
    """Whether the environment variable ``OFFLOOP_HIDE_ARGUMENTS`` says so, now."""
    return bool(os.environ.get("OFFLOOP_HIDE_ARGUMENTS"))
