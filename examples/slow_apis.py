"""Call a slow API thousands of times: 4 workers, each with 250 calls under way on its event loop.

The API is a server in this program, which answers after a tenth of a second.

Run it with ``python examples/slow_apis.py [CALLS]``.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from offloop import ProcessWorkerFactory, WorkerPool

CALLS = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
WORKERS, CONCURRENCY = 4, 250


class SlowApi:
    """Doubles numbers, slowly."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        number = int(await reader.readline())
        await asyncio.sleep(0.1)
        writer.write(b"%d\n" % (2 * number))
        self.now -= 1
        writer.close()


async def call(port: int, number: int) -> int:
    """What runs in the workers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"%d\n" % number)
    answer = int(await reader.readline())
    writer.close()
    return answer


def allow_many_connections() -> None:
    """A thousand connections, seen from the server, are above many a process's limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard < 0 else min(4096, hard), hard))


async def main() -> None:
    allow_many_connections()
    api = SlowApi()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    async with server, WorkerPool(WORKERS, factory=ProcessWorkerFactory(concurrency=CONCURRENCY)) as pool:
        start = time.perf_counter()
        answers = await asyncio.gather(*(pool.submit(call, port, number) for number in range(CALLS)))
        seconds = time.perf_counter() - start
    assert answers == [2 * number for number in range(CALLS)]
    print(f"{CALLS} calls of 0.1 s in {seconds:.1f} s: {CALLS / seconds:.0f} a second")
    print(f"{api.most} under way at once at the most")


asyncio.run(main())
