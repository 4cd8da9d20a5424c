"""Count the words of a stream of texts: an async source, a pool, and a sum as results come.

The source is asynchronous and could be endless (a queue, a socket); `map`
pulls it only as far as results are taken, so memory stays bounded.

Run it with ``python examples/async_pipeline.py``.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator

from offloop import WorkerPool

CHAPTERS = 200


async def chapters() -> AsyncIterator[str]:
    """Texts as they would come from a network."""
    for number in range(CHAPTERS):
        await asyncio.sleep(0)
        yield f"Chapter {number}. Time and tide wait for no man; time flies. " * 20


def count_words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z]+", text.lower()))


async def main() -> None:
    total: Counter[str] = Counter()
    async with WorkerPool() as pool:
        async for counts in pool.map(count_words, chapters(), ordered=False, buffersize=50):
            total += counts
    for word, count in total.most_common(3):
        print(f"{word:8} {count:6}")


asyncio.run(main())
