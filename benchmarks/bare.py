"""A template and its workers with nothing to them: the least that a pool of forked processes can take.

An interpreter without ``site`` is started, loads what unpickles a call, and
forks the workers, each of which runs what comes on its socket.  No errors, no
cancelling, no large data, no `asyncio` in them.  What this takes to start, and
keeps in memory, no design of this kind can save.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

NAME = "a bare template"

TEMPLATE = """
import gc, sys, os
from _pickle import dumps, loads
from _socket import socket
gc.freeze()
sys.path[:] = sys.argv[1].split(os.pathsep)
for fd in map(int, sys.argv[2:]):
    if not os.fork():
        peer = socket(fileno=fd)
        while data := peer.recv(65536):
            function, args = loads(data)
            peer.send(dumps(function(*args)))
        os._exit(0)
    os.close(fd)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


@asynccontextmanager
async def opened(workers: int) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Such workers, each of which takes one call after the other."""
    loop = asyncio.get_running_loop()
    idle: asyncio.LifoQueue[socket.socket] = asyncio.LifoQueue()
    pairs = [socket.socketpair() for _ in range(workers)]
    command = [sys.executable, "-S", "-P", "-c", TEMPLATE, ":".join(sys.path)]
    fds = [theirs.fileno() for _, theirs in pairs]
    command += map(str, fds)
    with subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL):  # noqa: ASYNC220
        for ours, theirs in pairs:
            theirs.close()
            ours.setblocking(False)
            idle.put_nowait(ours)

        async def run(function: Callable[..., Any], *args: Any) -> Any:
            peer = await idle.get()
            try:
                await loop.sock_sendall(peer, pickle.dumps((function, args)))
                return pickle.loads(await loop.sock_recv(peer, 65536))
            finally:
                idle.put_nowait(peer)

        try:
            yield lambda function, *args: loop.create_task(run(function, *args))
        finally:
            for ours, _ in pairs:
                ours.close()
