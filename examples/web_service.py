"""A web service with FastAPI that stays responsive while it computes.

``/primes`` computes in the pool, under a time limit; when too many requests wait,
it says so at once.  ``/blocking`` does the same work on the event loop, to show
the difference: meanwhile the service answers nobody.

Here the clients run in the same program, without a network.  It needs FastAPI
and HTTPX: ``python examples/web_service.py``.  To serve the network instead:
``uvicorn --app-dir examples web_service:app``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, HTTPException

from offloop import QueueFull, TaskTimeout, WorkerPool

LIMIT = 30_000
CLIENTS = 6


def count_primes(limit: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The pool lives as long as the service."""
    async with WorkerPool(2, min_workers=1, queue_limit=3) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/primes/{limit}")
async def primes(limit: int) -> dict[str, int]:
    pool: WorkerPool = app.state.pool
    try:
        return {"primes": await pool.options(timeout=30).submit(count_primes, limit)}
    except QueueFull:
        raise HTTPException(503, "busy", {"Retry-After": "1"}) from None
    except TaskTimeout:
        raise HTTPException(504, "took too long") from None


@app.get("/blocking/{limit}")
async def blocking(limit: int) -> dict[str, int]:
    return {"primes": count_primes(limit)}


@app.get("/health")
async def health() -> str:
    return "ok"


async def under_load(client: httpx.AsyncClient, path: str) -> tuple[list[int], int]:
    """The statuses of several requests at a time, and how many others were answered meanwhile."""
    requests = [asyncio.create_task(client.get(path)) for _ in range(CLIENTS)]
    answered = 0
    while not all(request.done() for request in requests):
        await asyncio.sleep(0.001)  # there is no network that would let the others run
        answered += (await client.get("/health")).status_code == 200
    return sorted(request.result().status_code for request in requests), answered


async def main() -> None:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        for path in f"/primes/{LIMIT}", f"/blocking/{LIMIT}":
            statuses, answered = await under_load(client, path)
            print(f"{path}: {statuses}, {answered} other requests answered meanwhile")


if __name__ == "__main__":  # uvicorn imports it
    asyncio.run(main())
