"""Log records and warnings of tasks come out of this program's own handlers.

The tasks use `logging` and `warnings` as they would anywhere.  Here a handler is
set up as usual; its format shows which worker and which task a record is from.

Run it with ``python examples/logging_from_workers.py``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings

from offloop import WorkerPool

log = logging.getLogger("shop")


def bake(cake: str) -> str:
    """Bake a cake, and say so."""
    oven = logging.getLogger("shop.oven")
    oven.debug("heating for %s", cake)
    if cake == "mud":
        try:
            raise ValueError("no recipe")
        except ValueError:
            oven.exception("can't bake %s", cake)
    else:
        oven.info("baked %s", cake)
    if cake == "plum":
        warnings.warn("plums are out of season", UserWarning, stacklevel=1)
    return cake


def set_up_logging() -> None:
    """One handler, whose format has defaults for the records that no task made."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging.Formatter(
            "%(levelname)-7s %(name)-11s worker %(worker_id)s, task %(task_id)s: %(message)s",
            defaults={"worker_id": "-", "task_id": "-"},
        )
    )
    logging.getLogger().addHandler(handler)
    log.setLevel(logging.INFO)  # workers do not even send the debug messages
    logging.captureWarnings(True)


async def main() -> None:
    set_up_logging()
    async with WorkerPool(1) as pool:
        log.info("open")
        await asyncio.gather(*(pool.submit(bake, cake) for cake in ("plum", "mud", "lemon")))
        log.info("closed")


asyncio.run(main())
