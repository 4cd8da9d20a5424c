"""A small TCP service that hashes passwords, and stays responsive meanwhile.

A line ``hash PASSWORD`` is answered with a salted scrypt hash, computed in a
worker under a time limit; ``ping`` is answered by the event loop itself.  With
more requests than the pool may queue, clients are told that it is busy.

Here the clients run in the same program: ``python examples/hash_service.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from functools import partial

import offloop


def hash_password(password: str) -> str:
    """A salted hash: slow on purpose, so nothing for an event loop."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
    return f"scrypt:{salt.hex()}:{digest.hex()}"


async def answer(pool: offloop.WorkerPool, line: str) -> str:
    command, _, argument = line.partition(" ")
    if command == "ping":
        return "pong"
    if command != "hash" or not argument:
        return "usage: ping | hash PASSWORD"
    try:
        result: str = await pool.options(timeout=10).submit(hash_password, argument)
    except offloop.QueueFull:
        return "busy"
    except offloop.OffloopError as error:
        return f"failed: {error}"
    return result


async def serve(pool: offloop.WorkerPool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one client, line by line."""
    async for line in reader:
        writer.write((await answer(pool, line.decode().strip())).encode() + b"\n")
        await writer.drain()
    writer.close()


async def request(port: int, line: str) -> str:
    """What a client gets for one line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line.encode() + b"\n")
    reply = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return reply.decode().strip()


async def main() -> None:
    async with offloop.WorkerPool(2, queue_limit=100) as pool:
        server = await asyncio.start_server(partial(serve, pool), "127.0.0.1", 0)
        async with server:
            port: int = server.sockets[0].getsockname()[1]
            hashing = [asyncio.create_task(request(port, f"hash secret{n}")) for n in range(8)]
            print("ping:", await request(port, "ping"))
            hashes = await asyncio.gather(*hashing)
            print(f"{len(set(hashes))} different hashes, such as {hashes[0][:16]}...")


asyncio.run(main())
