"""The C module behind `pickle`, typed as that, which saves a worker the 4 ms of the Python module.

Its classes and errors are those of `pickle` itself.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from pickle import PickleBuffer, Pickler, PicklingError, UnpicklingError, dumps, loads
else:
    from _pickle import PickleBuffer, Pickler, PicklingError, UnpicklingError, dumps, loads

__all__ = ["PickleBuffer", "Pickler", "PicklingError", "UnpicklingError", "dumps", "loads"]
