"""Every suite that a context must pass; a concrete test file inherits those that apply to it."""

from __future__ import annotations

from contract.base import Context
from contract.crash_contract import CrashContract
from contract.environment_contract import BootstrapContract, EnvironmentContract
from contract.execution_contract import CancelContract, ExecutionContract
from contract.failure_contract import FailureContract, RemoteFailureContract
from contract.large_contract import LargeContract, LargeCopyContract, LargeSharingContract
from contract.lease_contract import LeaseContract
from contract.lifecycle_contract import BindingContract, LifecycleContract
from contract.map_contract import MapContract, MapFailureContract
from contract.pickling_contract import PicklingContract, SharingContract
from contract.pool_contract import DispatchContract, PoolContract

__all__ = [
    "BindingContract",
    "BootstrapContract",
    "CancelContract",
    "Context",
    "CrashContract",
    "DispatchContract",
    "EnvironmentContract",
    "ExecutionContract",
    "FailureContract",
    "LargeContract",
    "LargeCopyContract",
    "LargeSharingContract",
    "LeaseContract",
    "LifecycleContract",
    "MapContract",
    "MapFailureContract",
    "PicklingContract",
    "PoolContract",
    "RemoteFailureContract",
    "SharingContract",
]
