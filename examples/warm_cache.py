"""Answer questions about several books; each book is indexed once, in one worker.

Tasks with equal keys go to the same worker, so its environment is a warm cache:
the index of a book is made at the first question about it and used for the others.
The books here are modules of the standard library.

Run it with ``python examples/warm_cache.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import textwrap
from collections import Counter
from pathlib import Path

from offloop import Environment, Task, WorkerPool

BOOKS = [argparse.__file__, functools.__file__, textwrap.__file__]
WORDS = ["class", "def", "return", "yield"]


def index(path: str) -> Counter[str]:
    """How often each word stands in a book."""
    return Counter(re.findall(r"\w+", Path(path).read_text()))


class Ask(Task[tuple[int, bool]]):
    """How often a word stands in a book, and whether the book had to be indexed for it."""

    def __init__(self, path: str, word: str) -> None:
        self.path = path
        self.word = word

    def run(self, environment: Environment) -> tuple[int, bool]:
        is_new = self.path not in environment
        words = environment.get_or_set(self.path, lambda: index(self.path), ttl=600)
        return words[self.word], is_new


async def main() -> None:
    async with WorkerPool(2) as pool:
        answers = {(book, word): pool.enqueue(Ask(book, word), key=book) for book in BOOKS for word in WORDS}
        indexed = 0
        for (book, word), answer in answers.items():
            count, is_new = await answer
            indexed += is_new
            print(f"{os.path.basename(book):14} {word:8} {count:5}")
        print(f"{len(answers)} questions, {indexed} books indexed")


asyncio.run(main())
