"""A Dask cluster on this machine: a scheduler and workers as processes, on the loopback interface alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_QUIET = {"DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "0", "DASK_LOGGING__DISTRIBUTED": "critical"}


class DaskCluster:
    """Processes that are ended with it.

    Args:
        folder: where they leave their files.
        host: the address of them all.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._folder = folder
        self._host = host
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host, "--port", "0"]
        self._run([*command, "--no-dashboard", "--scheduler-file", str(self._file)])

    def add_worker(self) -> subprocess.Popen[bytes]:
        """One more worker, with a thread; it has joined when the `address` of the scheduler says so."""
        return self._run(self.worker_command(self._folder, self._host))

    @staticmethod
    def worker_command(folder: Path, host: str) -> list[str]:
        """What starts a worker of the cluster with that folder."""
        return [
            *(sys.executable, "-m", "distributed.cli.dask_worker", "--host", host),
            *("--scheduler-file", str(folder / "scheduler.json"), "--local-directory", str(folder)),
            *("--nthreads", "1", "--no-nanny", "--no-dashboard"),
        ]

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env={**os.environ, **_QUIET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def wait_workers(self, count: int) -> str:
        """Wait until so many workers have joined; returns the scheduler's address."""
        from distributed import Client

        with Client(scheduler_file=str(self._file), set_as_default=False, timeout=30) as client:
            client.wait_for_workers(count, timeout=60)
            return str(client.scheduler.address)

    def close(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
