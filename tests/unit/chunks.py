"""Maps under a simulated clock, to see the sizes of their chunks."""

from __future__ import annotations

import heapq
from itertools import accumulate, islice

from offloop.scheduling.chunking import TARGET, Chunker, Past


def simulate(
    chunker: Chunker, seconds: list[float], workers: int, overhead: float = 30e-6, carried: float = 0.0
) -> tuple[list[list[float]], float]:
    """The chunks of items' durations that ``workers`` run, and when the last one ends."""
    items = iter(seconds)
    chunks: list[list[float]] = []
    running: list[tuple[float, int]] = []
    given_back: list[float] = []
    now = 0.0

    def send() -> None:
        size, is_bet = chunker.next_size(), chunker.is_bet
        chunk = given_back[:size] or list(islice(items, size))
        del given_back[:size]
        if chunk:
            chunker.sent(len(chunk))
            if is_bet and (rest := chunk[in_time(chunk) :]):
                del chunk[-len(rest) :]
                given_back.extend(rest)
                chunker.came_back(len(rest), sum(chunk))
            chunks.append(chunk)
            heapq.heappush(running, (now + overhead + sum(chunk), len(chunks) - 1))

    for _ in range(workers):
        send()
    while running:
        now, number = heapq.heappop(running)
        chunker.record(len(chunks[number]), sum(chunks[number]), carried=carried)
        send()
    return chunks, now


def in_time(chunk: list[float]) -> int:
    """How many items of a bet are run, if it looks at the clock after each."""
    return next((count for count, took in enumerate(accumulate(chunk), 1) if took >= TARGET), len(chunk))


def sizes(chunks: list[list[float]]) -> list[int]:
    return [len(chunk) for chunk in chunks]


def light(length: int, past: Past | None = None, *, workers: int = 2) -> Chunker:
    return Chunker(workers, length=length, may_bet=True, past=past)


def past_of(*seconds: float) -> Past:
    """What is left of a map of items that took so long."""
    past = Past()
    items = list(seconds) * (1000 if len(seconds) == 1 else 1)
    simulate(light(len(items), past), items, 2)
    return past
