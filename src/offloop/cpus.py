"""How many CPUs this process may really use, and what else its control groups allow it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from offloop.cgroups import Root, groups, read


def usable_cpus(root: Root = "/") -> int:
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


def physical_memory() -> int:
    """The machine's memory in bytes, whatever control groups allow."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_quota(root: Root = "/") -> float | None:
    """The tightest CPU quota of this process's control groups, in CPUs; None where there is none."""
    return _tightest(root, "cpu", _quota_v2, _quota_v1)


def cgroup_memory(root: Root = "/") -> int | None:
    """The tightest memory limit of this process's control groups, in bytes; None where there is none."""
    limit = _tightest(root, "memory", _reader("memory.max"), _reader("memory.limit_in_bytes"))
    return int(limit) if limit is not None and limit < _NO_LIMIT else None


def cgroup_processes(root: Root = "/") -> int | None:
    """How many processes and threads its control groups allow at the most; None where there is no limit."""
    limit = _tightest(root, "pids", _reader("pids.max"), _reader("pids.max"))
    return int(limit) if limit is not None else None


#: Version 1 has no word for "no limit", but the largest number of pages.
_NO_LIMIT = 1 << 60

#: Given a group's folder: the limit that it sets, or None.
Reader = Callable[[str], float | None]


def _tightest(root: Root, controller: str, read_v2: Reader, read_v1: Reader) -> float | None:
    limits = [
        limit
        for unified, folder in groups(root, controller)
        if (limit := _limit(folder, read_v2 if unified else read_v1)) is not None
    ]
    return min(limits, default=None)


def _limit(folder: str, read_limit: Reader) -> float | None:
    try:
        limit = read_limit(folder)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return limit if limit is not None and limit > 0 else None


def _quota_v2(folder: str) -> float | None:
    quota, period = read(f"{folder}/cpu.max").split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: str) -> float | None:
    quota = int(read(f"{folder}/cpu.cfs_quota_us"))
    return None if quota <= 0 else quota / int(read(f"{folder}/cpu.cfs_period_us"))


def _reader(name: str) -> Reader:
    """Reads a file that holds a number or ``max``."""

    def read_limit(folder: str) -> float | None:
        text = read(f"{folder}/{name}").strip()
        return None if text == "max" else int(text)

    return read_limit
