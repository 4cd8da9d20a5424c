"""joblib on offloop's workers: name the backend, and leave the code as it is.

The same line serves scikit-learn's ``n_jobs``.

Run it with ``python examples/joblib_backend.py``; it needs ``offloop[joblib]``.
"""

from __future__ import annotations

import os

import joblib
from joblib import Parallel, delayed

import offloop


def area_under(power: int, steps: int = 20_000) -> float:
    """The integral of ``x ** power`` from 0 to 1, by the midpoint rule."""
    return sum(((step + 0.5) / steps) ** power for step in range(steps)) / steps


offloop.register_joblib_backend()
with joblib.parallel_config(backend="offloop", n_jobs=2):
    areas = Parallel()(delayed(area_under)(power) for power in range(1, 7))
    workers = set(Parallel()(delayed(os.getpid)() for _ in range(20)))

print(*(f"1/{1 / area:.3f}" for area in areas))
print("computed here:", os.getpid() in workers)
