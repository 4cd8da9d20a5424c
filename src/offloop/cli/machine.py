"""What ``offloop doctor`` finds out about the machine and the Python."""

from __future__ import annotations

import mmap
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from typing import NamedTuple

import psutil

import offloop
from offloop.child.lowlevel import descriptor_of
from offloop.cli.failures import one_line
from offloop.cpus import cgroup_memory, cgroup_processes, cgroup_quota, usable_cpus
from offloop.crashreport import human_size

#: Descriptors that a process worker takes in the parent: measured.
_DESCRIPTORS = 4
#: Processes and threads that a worker takes.
_THREADS = 2
#: Memory below which a few workers with NumPy or pandas may not find room.
_LITTLE = 512 * 2**20


class Finding(NamedTuple):
    """One line: ``ok``, ``note``, ``none`` or ``FAIL``; what was looked at; what was found."""

    verdict: str
    subject: str
    text: str


def _python() -> Finding:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    parallel = (
        "only processes and interpreters run Python code" if has_gil else "threads run Python code, too,"
    )
    if has_gil and sys.version_info < (3, 14):
        parallel = "only processes run Python code"
    return Finding(
        "ok", "python", f"{name}, {'with a' if has_gil else 'without'} GIL: {parallel} in parallel"
    )


def _bytecode() -> Finding:
    home = os.path.dirname(offloop.__file__)
    cached = cache_from_source(os.path.join(home, "child", "template.py"))
    if os.path.exists(cached):
        return Finding("ok", "bytecode", "there is some, which each pool starts with")
    if not sys.dont_write_bytecode and os.access(_nearest(cached), os.W_OK):
        return Finding("ok", "bytecode", "it is written by the first pool")
    command = f"{sys.executable} -m compileall -q {home}"
    text = "there is none, and it may not be written: each pool compiles offloop anew, longer than it"
    return Finding("note", "bytecode", f"{text} takes to start; run once: {command}")


def _nearest(path: str) -> str:
    """The directory that is there of those that a path names."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _cores() -> Finding:
    usable, all_of_them = usable_cpus(), os.cpu_count() or 1
    bounds: list[str] = []
    if hasattr(os, "sched_getaffinity") and (allowed := len(os.sched_getaffinity(0))) < all_of_them:
        bounds.append(f"the affinity mask has {allowed}")
    if (quota := cgroup_quota()) is not None and quota < all_of_them:
        bounds.append(f"the control group's quota is {quota:g}")
    text = f"{usable} of {all_of_them} usable, so a pool has {usable} workers by default"
    text += f" ({', '.join(bounds)})" if bounds else ""
    return Finding(
        "ok" if usable > 1 else "note", "cores", text if usable > 1 else f"{text}; nothing runs faster"
    )


def _memory() -> Finding:
    try:
        memory = psutil.virtual_memory()
    except OSError as error:  # a container without /proc
        return Finding("note", "memory", f"how much there is cannot be found out: {one_line(error)}")
    text = f"{human_size(memory.available)} of {human_size(memory.total)} available"
    room = memory.available
    if (limit := cgroup_memory()) is not None and limit < memory.total:
        text += f", and {human_size(limit)} the limit of the control group"
        room = min(room, limit)
    if room < _LITTLE:
        return Finding("note", "memory", f"{text}: few workers will find room")
    return Finding("ok", "memory", text)


def _shared_memory() -> Finding:
    try:
        descriptor = os.memfd_create("offloop-doctor")
    except (AttributeError, OSError):
        return Finding(
            "none", "shared memory", "no memfd here: large arguments and results are sent through sockets"
        )
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        with mmap.mmap(descriptor, mmap.PAGESIZE) as mapped:
            mapped[:1] = b"x"
    finally:
        os.close(descriptor)
    return Finding(
        "ok", "shared memory", "memfd works: large arguments and results are shared; /dev/shm is not used"
    )


def _descriptors() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding("ok", "descriptors", "no limit")
    workers = max(0, limit - 64) // _DESCRIPTORS
    text = f"{limit:,} may be open: room for some {workers:,} workers"
    return Finding("ok" if workers >= usable_cpus() else "note", "descriptors", text)


def _processes() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [
        each for each in (soft, cgroup_processes()) if each is not None and each != resource.RLIM_INFINITY
    ]
    if not limits:
        return Finding("ok", "processes", "no limit")
    text = f"{min(limits):,} processes and threads may be there"
    enough = min(limits) >= 32 + _THREADS * usable_cpus()
    return Finding(
        "ok" if enough else "note", "processes", text if enough else f"{text}: few workers can start"
    )


def _pidfd() -> Finding:
    pidfd = descriptor_of(os.getpid())
    if pidfd < 0:
        return Finding("none", "pidfd", "not here: a thread waits for each worker's end")
    os.close(pidfd)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        return Finding("note", "pidfd", "works, but SIGCHLD is ignored: exit codes of workers may be unknown")
    return Finding("ok", "pidfd", "works: the end of a worker is noticed at once")


#: What is looked at, in this order.
MACHINE: list[tuple[str, Callable[[], Finding]]] = [
    ("python", _python),
    ("bytecode", _bytecode),
    ("cores", _cores),
    ("memory", _memory),
    ("shared memory", _shared_memory),
    ("descriptors", _descriptors),
    ("processes", _processes),
    ("pidfd", _pidfd),
]
