"""What docs/security.md says of descriptors, sockets, command lines, arguments and rights."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.bounds import eventually
from support.scripts import run_script

from offloop import ProcessWorkerFactory, SerializationError, TaskTimeout, WorkerCrashed, WorkerPool

START_METHODS = pytest.mark.parametrize("start_method", ["template", "exec"])


def open_files() -> dict[int, str]:
    """What is behind this process's descriptors."""
    found: dict[int, str] = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that listed them
            continue
    return found


def open_files_of_a_child() -> str:
    code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    return subprocess.run(
        [sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=True
    ).stdout


@START_METHODS
async def test_a_worker_has_no_descriptors_but_its_own(start_method: Any) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
            files = await pool.submit(open_files)
    finally:
        os.close(read)
        os.close(write)
    assert files.pop(0) == "/dev/null"
    assert files.pop(1) == os.readlink("/proc/self/fd/1")
    assert files.pop(2).partition(":")[0] in ("pipe", os.readlink("/proc/self/fd/2").partition(":")[0])
    others = {name for name in files.values() if not name.startswith(("/memfd:offloop-ledger", "anon_inode"))}
    others = {name for name in others if "/libffi.so." not in name}  # opens itself, for its trampolines
    lifelines = {name for name in others if name.startswith("pipe:")}
    assert len(lifelines) == (start_method == "exec")
    assert len(others - lifelines) == 2  # data and control
    assert all(name.startswith("socket:") for name in others - lifelines)


@START_METHODS
async def test_what_a_task_starts_gets_no_descriptor_of_its_worker(start_method: Any) -> None:
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        assert await pool.submit(open_files_of_a_child) == "[0, 1, 2]\n"


@START_METHODS
async def test_nothing_listens_and_no_socket_has_a_name(start_method: Any) -> None:
    async with WorkerPool(2, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        await pool.submit(abs, -1)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        inodes = {inode for process in family for inode in socket_inodes(process.pid)}
        assert len(inodes) >= 2
        for table in "tcp", "tcp6", "udp", "udp6":
            assert not inodes & inodes_of(Path(f"/proc/net/{table}"), at=9)
        unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        ours = [line for line in unix if line[6] in inodes]
        assert ours
        assert all(len(line) == 7 for line in ours)  # an eighth column would be a name
        assert not any(int(line[3], 16) & 0x10000 for line in ours)  # __SO_ACCEPTCON: it listens


def socket_inodes(pid: int) -> set[str]:
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target[len("socket:[") : -1])
    return found


def inodes_of(table: Path, at: int) -> set[str]:
    return {line.split()[at] for line in table.read_text().splitlines()[1:]} if table.exists() else set()


@START_METHODS
async def test_no_argument_is_on_a_command_line_or_in_an_environment(start_method: Any) -> None:
    secret = "hunter2-hunter2"
    async with WorkerPool(1, factory=ProcessWorkerFactory(start_method=start_method)) as pool:
        assert await pool.submit(str, secret) == secret
        for process in psutil.Process().children(recursive=True):
            for what in "cmdline", "environ":
                assert secret.encode() not in Path(f"/proc/{process.pid}/{what}").read_bytes()


def spin(secret: str) -> None:
    while True:
        pass


def fail(secret: str) -> None:
    raise ValueError("it failed")


class Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError("not this one")


@pytest.mark.parametrize("hidden", [False, True])
async def test_errors_show_arguments_unless_that_is_turned_off(
    hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOOP_HIDE_ARGUMENTS", "1" if hidden else "")
    secret = "hunter2"
    async with WorkerPool(1) as pool:
        with pytest.raises(TaskTimeout) as timeout:
            await pool.options(timeout=0.05).submit(spin, secret)
        with pytest.raises(WorkerCrashed) as crash:
            await pool.submit(os.kill, await pool.submit(os.getpid), 9)
        with pytest.raises(SerializationError) as unsent:
            await pool.submit(fail, [secret, Unpicklable()])
        with pytest.raises(ValueError, match="it failed") as mapped:
            await pool.map(fail, [secret])
        execution = pool.submit(fail, secret)
        shown = [str(timeout.value), str(unsent.value), *mapped.value.__notes__, repr(execution)]
        await eventually(execution.done)
        assert isinstance(execution.exception(), ValueError)
    for text in shown:
        assert (secret in text) != hidden, text
    assert ("9)" in str(crash.value)) != hidden
    assert ("9)" in str(crash.value.task)) != hidden


async def test_the_traceback_of_a_task_shows_no_arguments() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(ValueError, match="it failed") as caught:
            await pool.submit(fail, "hunter2")
    assert "hunter2" not in str(caught.value.__cause__)


def hang_in_c() -> None:
    """Hold the interpreter's lock, and take no notice of a polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(600)


@START_METHODS
async def test_a_worker_that_may_not_be_signalled_is_ended_all_the_same(
    start_method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("as it is for a program that has dropped root meanwhile")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    monkeypatch.setattr(os, "kill", refuse)
    factory = ProcessWorkerFactory(start_method=start_method)
    async with WorkerPool(1, factory=factory, cancel_grace=0.01) as pool:
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.05).submit(hang_in_c)
        assert await pool.submit(abs, -1) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root may drop it")
def test_a_program_that_drops_root_has_its_new_workers_without_and_gets_rid_of_the_old(
    tmp_path: Path,
) -> None:
    done = run_script(
        """
        import asyncio, os, psutil, offloop

        def group():
            return os.getgid()

        def stubborn():
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass

        async def main():
            async with offloop.WorkerPool(1, cancel_grace=0.01) as pool:
                print(await pool.submit(group) == group())
                os.setgid(54321)
                await pool.recycle()
                print(await pool.submit(group))
                while len(psutil.Process().children()) > 1:  # what started the former one ends with it
                    await asyncio.sleep(0.01)
                os.setuid(54321)  # who may well not be able to read this Python: no worker is started here
                try:
                    await pool.options(timeout=0.05).submit(stubborn)
                except offloop.TaskTimeout:
                    print("it is over")

        asyncio.run(main())
        """,
        tmp_path,
    )
    assert done.stdout.splitlines() == ["True", "54321", "it is over"]
    assert done.stderr == ""
