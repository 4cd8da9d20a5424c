"""Find out where a task is stuck: its progress stops, so ask for its stack.

The "crawler" here reads pages from a server that stops answering.

Run it with ``python examples/where_is_it.py``.
"""

from __future__ import annotations

import asyncio
import socket

from offloop import WorkerPool, current_task


def crawl(port: int) -> int:
    """Read pages until there are no more."""
    pages = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while fetch(connection):
            pages += 1
            current_task().report(pages)
    return pages


def fetch(connection: socket.socket) -> bytes:
    """One page."""
    connection.sendall(b"next\n")
    return connection.recv(1024)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer three requests, then no more."""
    for _ in range(3):
        await reader.readline()
        writer.write(b"a page")
    await reader.read()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, WorkerPool(1) as pool:
        execution = pool.submit(crawl, server.sockets[0].getsockname()[1])
        pages = 0.0
        try:
            reports = execution.progress()
            while True:
                async with asyncio.timeout(0.5 if pages == 3 else 30):
                    pages = (await anext(reports)).done
        except TimeoutError:
            print(f"crawl: {pages} pages, then nothing for half a second; it is here:")
            print(await execution.stack(), end="")
        execution.cancel()
        await asyncio.wait([execution])
        print("cancelled" if execution.cancelled() else "done")


asyncio.run(main())
