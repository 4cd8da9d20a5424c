"""How many CPUs this process may really use, and what else its control groups allow it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs this process may use: its affinity mask, and the CPU quotas of its control groups, rounded up.

    Args:
        root: where ``proc`` and ``sys`` are mounted.

    Returns:
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cgroup_quota(root)
    if quota is not None:
        count = min(count, math.ceil(quota))
    return max(1, count)


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU quota of this process's control groups, in CPUs; None where there is none."""
    return _tightest(root, "cpu", _quota_v2, _quota_v1)


def cgroup_memory(root: Path = Path("/")) -> int | None:
    """The tightest memory limit of this process's control groups, in bytes; None where there is none."""
    limit = _tightest(root, "memory", _reader("memory.max"), _reader("memory.limit_in_bytes"))
    return int(limit) if limit is not None and limit < _NO_LIMIT else None


def cgroup_processes(root: Path = Path("/")) -> int | None:
    """How many processes and threads its control groups allow at the most; None where there is no limit."""
    limit = _tightest(root, "pids", _reader("pids.max"), _reader("pids.max"))
    return int(limit) if limit is not None else None


#: Version 1 has no word for "no limit", but the largest number of pages.
_NO_LIMIT = 1 << 60

Reader = Callable[[Path], float | None]


def _tightest(root: Path, controller: str, read_v2: Reader, read_v1: Reader) -> float | None:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if controllers == "":
            limits += _limits(root / "sys/fs/cgroup", path, read_v2)
        elif controller in controllers.split(","):
            limits += _limits(root / "sys/fs/cgroup" / controllers, path, read_v1)
    return min(limits, default=None)


def _limits(mount: Path, path: str, read: Reader) -> list[float]:
    """The limits of a group and of all above it; inside a container its own group is the mount itself."""
    group = mount / path.lstrip("/")
    found: list[float] = []
    for folder in (group, *group.parents):
        try:
            limit = read(folder)
        except (OSError, ValueError, ZeroDivisionError):
            limit = None
        if limit is not None and limit > 0:
            found.append(limit)
        if folder == mount:
            break
    return found


def _quota_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return None if quota <= 0 else quota / int((folder / "cpu.cfs_period_us").read_text())


def _reader(name: str) -> Reader:
    """Reads a file that holds a number or ``max``."""

    def read(folder: Path) -> float | None:
        text = (folder / name).read_text().strip()
        return None if text == "max" else int(text)

    return read
