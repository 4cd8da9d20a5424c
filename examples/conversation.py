"""Talk with a running task: a calculator in a worker process that keeps its variables between questions.

A channel carries messages both ways while the task runs: `Execution.channel`
here, ``current_task().channel`` in the worker.

Run it with ``python examples/conversation.py``.
"""

from __future__ import annotations

import asyncio

from offloop import WorkerPool, current_task


def calculator() -> int:
    """Answer one question after the other, until None comes; returns how many there were."""
    channel = current_task().channel
    variables: dict[str, float] = {}
    count = 0
    while (question := channel.receive()) is not None:
        name, _, expression = question.partition("=")
        try:
            variables[name.strip()] = answer = eval(expression, {}, variables)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        channel.send(answer)
        count += 1
    return count


async def main() -> None:
    async with WorkerPool(1) as pool:
        execution = pool.submit(calculator)
        for question in ("width = 6", "height = width + 1", "area = width * height", "oops = area / 0"):
            await execution.channel.send(question)
            print(f"{question:22} -> {await execution.channel.receive()}")
        await execution.channel.send(None)
        print(f"{await execution} questions answered")


asyncio.run(main())
