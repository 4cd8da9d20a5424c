"""The guards of `conftest` themselves: each of these leaks must be reported, and the clean tests not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.scripts import script_environment

#: Each test's name says how it must end.
SAMPLES = """
import asyncio, mmap, os, socket, subprocess, threading, time

from support import bounds, leaks, tasks

leaks.GRACE = 0.2
kept = []
never = threading.Event()

def test_error_process():
    kept.append(subprocess.Popen(["sleep", "100"]))

def test_error_orphan():
    subprocess.run(["sh", "-c", "sleep 100 &"])

def test_error_zombie():
    if os.fork() == 0:
        os._exit(0)

def test_error_thread():
    threading.Thread(target=never.wait, daemon=True).start()

def test_error_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_error_segment():
    fd = os.memfd_create("leaked")
    os.ftruncate(fd, 4096)
    kept.append(mmap.mmap(fd, 4096))
    os.close(fd)

def test_failed_socket():
    socket.socket()

async def test_failed_exception_never_retrieved():
    asyncio.get_running_loop().create_future().set_exception(ValueError("never retrieved"))

async def test_failed_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

async def test_failed_late():
    async with bounds.fail_after(0.01):
        await asyncio.Event().wait()

def test_failed_hanging():
    with bounds.hang_guard(0.05):
        never.wait()

async def test_failed_hanging_loop():
    with bounds.hang_guard(0.05):
        never.wait()

async def test_passed_gates_and_mailboxes(gate, mailbox):
    waiting = [asyncio.ensure_future(asyncio.to_thread(tasks.pass_gate, gate.path, n)) for n in range(3)]
    waiting.append(asyncio.ensure_future(tasks.apass_gate(gate.path, 3)))
    assert len(set(await gate.arrived(4))) == 4
    assert gate.arrivals_so_far() == []
    gate.let_through()
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    gate.open()
    assert await asyncio.gather(*waiting) == [0, 1, 2, 3]
    await asyncio.to_thread(tasks.tell, mailbox.path, "hello")
    assert await mailbox.next() == "hello"
    assert mailbox.drain() == []

async def test_passed_closing_a_gate_lets_everybody_through(gate):
    threading.Thread(target=tasks.pass_gate, args=(gate.path,)).start()
    await gate.arrived()

def test_passed_a_process_that_ends_in_time():
    subprocess.run(["true"])
"""


def test_leaks_and_hangs_are_reported_and_clean_tests_are_not(tmp_path: Path) -> None:
    sample = tmp_path / "test_samples.py"
    sample.write_text(SAMPLES)
    options = [
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-rA",
        "--tb=no",
        "-W",
        "error",
    ]
    environment = script_environment()
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent.parent), environment["PYTHONPATH"]]
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *options,
            f"--rootdir={tmp_path}",
            f"--basetemp={tmp_path / 'inner'}",
            sample,
        ],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
        cwd=tmp_path,
    )
    # A test that leaks has passed itself, and is named again for the error in its teardown.
    ends = {name: end for end, name in re.findall(r"^([A-Z]+) \S+::(test_\w+)", done.stdout, re.MULTILINE)}
    assert len(ends) == 15, done.stdout + done.stderr
    assert [name for name, end in ends.items() if name.split("_")[1] != end.lower()] == []
