"""Private unix sockets: in a folder of one's own, for nobody else."""

from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile

#: The longest path of a unix socket, in bytes, on any system.
_LONGEST = 103


def default_folder() -> str:
    """Where the sockets are that nobody gave another place: below ``$XDG_RUNTIME_DIR``, or in ``/tmp``."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return os.path.join(runtime, "offloop")
    return os.path.join(tempfile.gettempdir(), f"offloop-{os.geteuid()}")


def default_path(pid: int) -> str:
    """The socket of a process, where it was given no other place."""
    return os.path.join(default_folder(), f"{pid}.sock")


def make_private(folder: str) -> None:
    """Make a folder that only this user may enter, or make sure that it is one.

    Raises:
        OSError: it can't be made.
        PermissionError: it is another user's, others may enter it, or it is a link.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{folder!r} is not a folder that is this user's and closed to all others (0700)"
        )


def listen(path: str) -> socket.socket:
    """A socket that listens at a path in a private folder, in place of one that nobody listens at.

    Raises:
        OSError: the folder is not private, somebody listens there, or the path is too long.
    """
    if len(os.fsencode(path)) > _LONGEST:
        raise OSError(f"a socket's path may have {_LONGEST} bytes, and {path!r} has more")
    make_private(os.path.dirname(path) or ".")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError:
            _remove_stale(path)
            listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that a process left behind which was killed."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(f"{path!r} exists, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(f"somebody listens at {path!r} already")


def is_own(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's; the folder sees to it, this makes sure."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    raw = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return struct.unpack("3i", raw)[1] in (os.geteuid(), 0)


def ask(path: str, seconds: float = 5.0) -> bytes:
    """What the process that listens at a path sends.

    Raises:
        OSError: there is none, or it does not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        parts: list[bytes] = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)
