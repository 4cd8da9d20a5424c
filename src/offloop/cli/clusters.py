"""The cluster that ``--cluster ADDRESS`` names."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offloop.contexts.cluster import ClusterOptions
    from offloop.contexts.engine import Size

#: What `ray.init` takes for the cluster that this machine is part of, or ``RAY_ADDRESS`` names.
_HERE = "auto"


def cluster_address(text: str) -> str:
    """The type of the option ``--cluster``."""
    scheme, _, place = text.partition("://")
    if text == "ray" or (scheme and place):
        return text
    raise argparse.ArgumentTypeError(
        f"must be ray://HOST:PORT or ray for Ray, or tcp://HOST:PORT for Dask, not {text!r}"
    )


def cluster_factory(address: str, start_timeout: float = 60.0) -> ClusterOptions:
    """The factory of workers on the cluster with this address; it is not spoken to yet.

    Args:
        address: ``"ray://HOST:PORT"``, ``"ray"`` for the Ray cluster that this
            machine is part of, or the address of a Dask scheduler.
        start_timeout: seconds that the cluster and its first worker may take to answer.

    Raises:
        ImportError: what the cluster needs is not installed here; the text says how to get it.
    """
    if address == "ray" or address.startswith("ray://"):
        from offloop.contexts.ray import RayWorkerFactory

        return RayWorkerFactory(address=_HERE if address == "ray" else address, start_timeout=start_timeout)
    from offloop.contexts.dask import DaskWorkerFactory

    return DaskWorkerFactory(address, start_timeout=start_timeout)


async def cluster_size(factory: ClusterOptions) -> Size:
    """Ask the cluster how large it is.

    Raises:
        Exception: whatever the engine raises where the cluster is not to be reached.
    """
    engine = factory.engine()
    try:
        size = await asyncio.wrap_future(engine.size())
    except BaseException:
        engine.close()  # it may wait for what was given up
        raise
    await asyncio.wrap_future(engine.close())
    return size
