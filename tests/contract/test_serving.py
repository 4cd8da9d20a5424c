"""Statistics for other processes: only where asked for, whatever the event loops do."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tasks
from support.bounds import eventually
from support.gates import Gate

from offloop import Executor, WorkerFactory, WorkerPool, serve_statistics, serving
from offloop.observe.private import ask

BOUND = 45.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "private"
    path.mkdir(0o700)
    return path


async def told(path: str) -> list[dict[str, Any]]:
    """The pools that the process tells of."""
    answer = json.loads(await asyncio.to_thread(ask, path))
    assert answer["pid"] == os.getpid()
    pools: list[dict[str, Any]] = answer["pools"]
    return pools


async def test_a_pool_in_use_is_told_of(factory: WorkerFactory, folder: Path, gate: Gate) -> None:
    with serve_statistics(folder / "a.sock") as server:
        assert await told(server.path) == []
        async with WorkerPool(1, factory=factory) as pool:
            running = pool.submit(tasks.pass_gate, gate.path)
            await gate.arrived()
            (found,) = await told(server.path)
            assert found["name"] == repr(pool)
            assert found["statistics"]["running"] == 1
            assert found["statistics"]["workers"][0]["running"][0]["task"].startswith("pass_gate(")
            gate.let_through()
            await running
        assert await told(server.path) == []


async def test_pools_of_other_threads_are_told_of_too(folder: Path) -> None:
    with serve_statistics(folder / "a.sock") as server, Executor(1, factory="thread") as executor:
        await asyncio.wrap_future(executor.submit(tasks.echo, 1))
        (found,) = await told(server.path)
        assert found["statistics"]["succeeded"] == 1


async def test_an_event_loop_that_is_held_up_is_told_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ANSWER", 0.01)
    with serve_statistics(folder / "a.sock") as server:
        async with WorkerPool(1, factory="thread") as pool:
            await pool.submit(tasks.echo, 1)
            (found,) = json.loads(ask(server.path))["pools"]  # on the event loop, which is so held up
            assert found["held_up"] is True


async def test_a_program_that_can_not_have_the_thread_for_it_works_unwatched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(serving.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        serve_statistics(folder / "a.sock")
    assert not list(folder.iterdir())
    monkeypatch.setenv("OFFLOOP_STATISTICS", "1")
    monkeypatch.setattr(serving, "_by_itself", None)

    async def use() -> int:
        async with WorkerPool(1) as pool:
            return await pool.submit(len, "ab")

    with pytest.warns(RuntimeWarning, match="no statistics are served: can't start new thread"):
        assert await use() == 2


async def test_closing(folder: Path) -> None:
    server = serve_statistics(folder / "a.sock")
    assert "listening" in repr(server)
    with pytest.raises(OSError, match="somebody listens"):
        serve_statistics(folder / "a.sock")
    server.close()
    server.close()
    assert "closed" in repr(server)
    assert os.listdir(folder) == []


async def test_a_client_that_takes_nothing_is_left_for_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"pools": "x" * 10_000_000}, {"pid": os.getpid(), "pools": []}])
    monkeypatch.setattr(serving, "TAKE", 0.01)
    monkeypatch.setattr(serving, "everything", lambda: next(answers))
    with serve_statistics(folder / "a.sock") as server, socket.socket(socket.AF_UNIX) as idle:
        idle.connect(server.path)
        assert await told(server.path) == []


PROGRAM = """
import asyncio, atexit, os, sys
from offloop import WorkerPool

async def main():
    async with WorkerPool(1) as pool:
        await pool.submit(abs, 1)
        if "fork" in sys.argv and not (pid := os.fork()):
            atexit._run_exitfuncs()
            os._exit(0)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts the program, which then waits; each of them ends with the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.communicate("\n", timeout=BOUND)


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "offloop", "top", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)


def test_nothing_listens_by_default(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    start()
    start(OFFLOOP_STATISTICS="0")
    assert os.listdir(tmp_path) == []
    seen = top()
    assert (seen.returncode, seen.stdout) == (2, "")
    assert seen.stderr.startswith("offloop top: no process tells its statistics (")
    assert top("1").returncode == 2


def test_a_program_that_the_variable_allows_to_be_watched(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = start("fork", OFFLOOP_STATISTICS="1")
    for arguments in ([], [str(first.pid)], [str(tmp_path / "offloop" / f"{first.pid}.sock")]):
        seen = top(*arguments)
        assert (seen.returncode, seen.stderr) == (0, "")
        assert seen.stdout.splitlines()[0] == f"process {first.pid}"
        assert "1 succeeded" in seen.stdout
    assert json.loads(top("--json").stdout)["pid"] == first.pid
    second = start(OFFLOOP_STATISTICS="1")
    assert str(second.pid) in top().stderr
    for process in (first, second):
        process.communicate("\n", timeout=BOUND)
    assert os.listdir(tmp_path / "offloop") == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_on_a_terminal_it_follows_until_a_signal_and_leaves_that_in_order(
    start: Callable[..., subprocess.Popen[str]], number: signal.Signals, status: int
) -> None:
    watched = start(OFFLOOP_STATISTICS="1")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "offloop", "top", str(watched.pid), "--interval", "0.01"]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def read(until: bytes) -> bool:
        try:
            seen.extend(os.read(ours, 1 << 16))
        except BlockingIOError:
            pass
        return until in seen

    try:
        await eventually(lambda: read(b"1 succeeded"))
        seen.clear()
        await eventually(lambda: read(b"1 succeeded"))
        process.send_signal(number)
        await eventually(lambda: read(b"\x1b[?25h\x1b[?1049l"))  # the cursor and the screen as they were
        await eventually(lambda: process.poll() is not None)
        assert process.returncode == status
    finally:
        process.kill()
        process.wait()
        os.close(ours)


async def test_a_live_view(factory: WorkerFactory, capsys: pytest.CaptureFixture[str]) -> None:
    async with WorkerPool(1, factory=factory) as pool:
        with pool.live(interval=0.001) as live:
            await pool.submit(tasks.echo, 1)
            await eventually(lambda: "1 succeeded" in dict(live._view.lines)["tasks"])
            with pytest.raises(RuntimeError, match="once"):
                live.__enter__()
        async with pool.get_worker() as lease:
            with lease.live():
                await lease.submit(tasks.echo, 1)
    assert capsys.readouterr() == ("", "")
