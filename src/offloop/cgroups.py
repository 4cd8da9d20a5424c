"""The control groups that this process is in: folders of small files, which tell limits and count events."""

from __future__ import annotations

import os
from collections.abc import Iterator

Root = str | os.PathLike[str]


def groups(root: Root, controller: str) -> Iterator[tuple[bool, str]]:
    """The folders of this process's groups, and of all above them, the innermost first.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
        controller: ``cpu``, ``memory``, ``pids``.

    Yields:
        Whether the folder is of version 2, where one hierarchy has all controllers; and its path.  It may
        not exist: inside a container the group that ``proc`` names is the mount itself.
    """
    try:
        lines = read(os.path.join(root, "proc/self/cgroup")).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not path:
            continue  # it makes no sense
        if not controllers:
            yield from ((True, folder) for folder in _upwards(root, "", path))
        elif controller in controllers.split(","):
            for hierarchy in dict.fromkeys((controllers, controller)):  # one is often a link to the other
                yield from ((False, folder) for folder in _upwards(root, hierarchy, path))


def _upwards(root: Root, hierarchy: str, path: str) -> Iterator[str]:
    mount = os.path.join(root, "sys/fs/cgroup", hierarchy).rstrip("/")
    folder = f"{mount}/{path.strip('/')}".rstrip("/")
    while folder != mount:
        yield folder
        folder = os.path.dirname(folder)
    yield mount


def read(path: str) -> str:
    """What a file says; `pathlib` would do the same, and take 3 ms to load.

    Raises:
        OSError: it can't be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
