"""A task that forks: only the worker itself may go on speaking with the parent (FAULTS 19, 20, 27)."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from support import tasks

from offloop import WorkerCrashed, WorkerPool


def fork_and_return() -> tuple[int, int]:
    """Return in both processes: here with the child's pid, there with 0."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid(), child


def fork_and_print(path: str) -> int:
    """In the child write a line, as a task may; then return in both."""
    child = os.fork()
    if child == 0:
        with open(path, "w") as file:
            file.write("said")
    else:
        os.waitpid(child, 0)
    return child


def leave_a_child_and_die(fifo: str) -> None:
    """Die while a child of one's own lives on, with whatever it inherited."""
    if os.fork() == 0:
        with open(fifo, "rb") as file:
            file.read()
        os._exit(0)
    os._exit(1)


def leave_a_child_that_crashes_and_die() -> None:
    """Die of something else than one's own child did."""
    child = os.fork()
    if child == 0:
        tasks.segfault()
    os.waitpid(child, 0)
    os.kill(os.getpid(), signal.SIGKILL)


async def test_only_the_worker_answers_when_a_task_returns_in_its_child_as_well() -> None:
    async with WorkerPool(1) as pool:
        worker = await pool.submit(os.getpid)
        answered_by, child = await pool.submit(fork_and_return)
        assert answered_by == worker
        assert child != 0
        assert await pool.submit(os.getpid) == worker


async def test_what_the_child_of_a_task_does_is_done(tmp_path: object) -> None:
    path = f"{tmp_path}/said"
    async with WorkerPool(1) as pool:
        assert await pool.submit(fork_and_print, path)
    with open(path) as file:
        assert file.read() == "said"


async def test_a_worker_is_known_to_be_dead_though_its_child_lives_on(tmp_path: object) -> None:
    fifo = f"{tmp_path}/fifo"
    os.mkfifo(fifo)
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerCrashed):
            await pool.submit(leave_a_child_and_die, fifo)
        assert await pool.submit(abs, -1) == 1
        os.close(os.open(fifo, os.O_WRONLY))  # lets the child go


async def test_the_crash_of_a_child_is_not_taken_for_its_workers() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerCrashed, match="SIGKILL") as caught:
            await pool.submit(leave_a_child_that_crashes_and_die)
        assert caught.value.stack is None


async def test_a_fork_of_the_parent_can_not_use_its_pool() -> None:
    async with WorkerPool(1) as pool:
        assert await pool.submit(abs, -1) == 1
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                pool.submit(abs, -1)
                os.write(write, b"no error")
            except RuntimeError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        said = await asyncio.to_thread(os.read, read, 1000)
        os.close(read)
        os.waitpid(child, 0)
        assert b"belongs to the process that was forked" in said
        assert await pool.submit(abs, -2) == 2
