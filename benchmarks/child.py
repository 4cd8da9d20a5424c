"""The process that a contender runs in: measures a round whenever it is told to.

Nothing heavy is imported here: some peers import their parent's main module in
every worker, and are not to be charged for what only benchmarks need.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from benchmarks.model import Contender, Settings


def main(module: str, contender: str, settings: str) -> None:
    """Serve rounds: a line on stdin asks for one, a line of JSON on stdout answers.

    End of file on stdin ends it.
    """
    import asyncio
    import json
    import os
    from importlib import import_module

    from benchmarks.model import Settings

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what peers print must not be taken for an answer
    sys.stdout = sys.stderr  # nor come after their last words, when what was buffered is flushed
    chosen = import_module(module).CASE.contender(contender)
    parsed = Settings(**json.loads(settings))
    with asyncio.Runner(loop_factory=_loop_factory(parsed)) as runner:
        runner.run(_serve(chosen, parsed, answers))


def _loop_factory(settings: Settings) -> Any:
    if not settings.uvloop:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(contender: Contender, settings: Settings, answers: TextIO) -> None:
    import gc
    import json

    async with contender.session(settings) as measure:
        if contender.warm:
            await measure()
        print(json.dumps({}), file=answers, flush=True)
        # Blocks the event loop: between its rounds a contender is to do nothing.
        while sys.stdin.readline():
            gc.collect()  # what an earlier round left is not charged to this one
            print(json.dumps(await measure()), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
