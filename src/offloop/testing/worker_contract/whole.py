"""The whole suite as one class."""

from __future__ import annotations

from offloop.testing.worker_contract.failing import CancelContract, CrashContract, FailureContract
from offloop.testing.worker_contract.working import EnvironmentContract, LifeContract, PoolContract


class WorkerContract(
    LifeContract, FailureContract, CancelContract, CrashContract, EnvironmentContract, PoolContract
):
    """All of it; see the package's text, and `Contract` for what to set."""
