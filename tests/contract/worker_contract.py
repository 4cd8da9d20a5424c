"""Every suite that a context must pass; a concrete test file inherits those that apply to it."""

from __future__ import annotations

from contract.base import Context
from contract.cancel_contract import (
    CancelCrashContract,
    CancelMessageContract,
    CancelPicklingContract,
    CancelRaceContract,
)
from contract.channel_contract import ChannelContract, ChannelCrashContract, ChannelPicklingContract
from contract.context_contract import (
    ContextContract,
    ContextCopyContract,
    ContextCrashContract,
    ContextSharingContract,
)
from contract.crash_contract import CrashContract
from contract.environment_contract import BootstrapContract, EnvironmentContract
from contract.execution_contract import CancelContract, ExecutionContract
from contract.failure_contract import FailureContract, RemoteFailureContract
from contract.large_bytes_contract import LargeBytesContract, LargeBytesCopyContract
from contract.large_contract import LargeContract, LargeCopyContract, LargeSharingContract
from contract.lease_contract import LeaseContract
from contract.lifecycle_contract import BindingContract, LifecycleContract
from contract.logging_contract import LoggingContract, LoggingProcessContract, RemoteLoggingContract
from contract.map_contract import MapContract, MapFailureContract
from contract.options_contract import OptionsContract, RetryContract
from contract.pickling_contract import PicklingContract, SharingContract
from contract.pool_contract import DispatchContract, PoolContract
from contract.process_statistics_contract import ProcessStatisticsContract
from contract.progress_contract import ProgressContract, ProgressCrashContract
from contract.recycling_contract import MemoryContract, RecyclingContract
from contract.resource_contract import ResourceContract
from contract.stack_contract import StackContract, StuckContract
from contract.statistics_contract import StatisticsContract
from contract.stream_contract import StreamContract, StreamFlowContract
from contract.stream_end_contract import StreamClosingContract, StreamCrashContract
from contract.warnings_contract import RemoteWarningsContract, WarningsContract

__all__ = [
    "BindingContract",
    "BootstrapContract",
    "CancelContract",
    "CancelCrashContract",
    "CancelPicklingContract",
    "CancelMessageContract",
    "CancelRaceContract",
    "ChannelContract",
    "ChannelCrashContract",
    "ChannelPicklingContract",
    "Context",
    "ContextContract",
    "ContextCopyContract",
    "ContextCrashContract",
    "ContextSharingContract",
    "CrashContract",
    "DispatchContract",
    "EnvironmentContract",
    "ExecutionContract",
    "FailureContract",
    "LargeBytesContract",
    "LargeBytesCopyContract",
    "LargeContract",
    "LargeCopyContract",
    "LargeSharingContract",
    "LeaseContract",
    "LifecycleContract",
    "LoggingContract",
    "LoggingProcessContract",
    "MapContract",
    "MapFailureContract",
    "MemoryContract",
    "OptionsContract",
    "PicklingContract",
    "PoolContract",
    "ProcessStatisticsContract",
    "RecyclingContract",
    "ProgressContract",
    "ProgressCrashContract",
    "RemoteFailureContract",
    "RemoteLoggingContract",
    "RemoteWarningsContract",
    "ResourceContract",
    "RetryContract",
    "SharingContract",
    "StackContract",
    "StatisticsContract",
    "StreamClosingContract",
    "StreamContract",
    "StreamCrashContract",
    "StreamFlowContract",
    "StuckContract",
    "WarningsContract",
]
