"""offloop and its peers, by name."""

from __future__ import annotations

from typing import Any

from benchmarks.comparison.asynchronous import Aiomultiprocess, Anyio, Offloop, TrioParallel
from benchmarks.comparison.library import Library
from benchmarks.comparison.synchronous import (
    Joblib,
    Loky,
    Mpire,
    MultiprocessingPool,
    Pebble,
    StandardExecutor,
)

LIBRARIES: dict[str, type[Library]] = {
    "offloop": Offloop,
    "ProcessPoolExecutor": StandardExecutor,
    "multiprocessing.Pool": MultiprocessingPool,
    "loky": Loky,
    "joblib": Joblib,
    "pebble": Pebble,
    "mpire": Mpire,
    "anyio": Anyio,
    "aiomultiprocess": Aiomultiprocess,
    "trio-parallel": TrioParallel,
}


def opened(name: str, workers: int, **options: Any) -> Library:
    """A library with its workers; these end with the cell: how well it shuts down is no part of an answer."""
    return LIBRARIES[name](workers, **options)
