"""A worker's own key-value store: `Environment`, the interface, and `LocalEnvironment`.

This loads in every worker: ``asyncio`` and ``logging`` are only used where
somebody else has loaded them, or where something has gone wrong.
"""

from offloop.environment.base import Environment
from offloop.environment.local import LocalEnvironment

__all__ = ["Environment", "LocalEnvironment"]
