"""The two ways to pdb in a worker that docs/debugging.md shows, as somebody at the prompt would use them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import running_script, script_environment

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "debugging.md"

#: What is typed: a variable is looked at and changed, then the task goes on.
TYPED = b"p double\ndouble = 43\nc\n"

#: Makes the terminal on its standard input the controlling one, then runs a program.
ON_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""


def program(name: str) -> str:
    """The program that the page saves under this name."""
    block = rf"(?ms)<!-- file: {name} -->\n```python\n(.*?)^```$"
    found = re.search(block, PAGE.read_text("utf-8"))
    assert found is not None
    return found[1]


def read_to(fd: int, text: bytes) -> bytes:
    """What comes up to and with this text."""
    got = b""
    while text not in got:
        got += os.read(fd, 4096)
    return got


def test_pdb_on_the_terminal(tmp_path: Path) -> None:
    script = tmp_path / "terminal.py"
    script.write_text(program("terminal_pdb.py"))
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, str(script)],
            **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
            env=script_environment(),
            start_new_session=True,
        ) as process:
            assert b"work()" in read_to(ours, b"(Pdb) ")
            os.write(ours, TYPED)
            assert b"42\r\n" in read_to(ours, b") 43\r\n")
            assert process.wait() == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_pdb_over_a_socket(tmp_path: Path) -> None:
    with running_script(program("socket_pdb.py"), tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        line = process.stderr.readline()
        assert line.startswith("pdb waits: nc 127.0.0.1 ")
        with socket.create_connection(("127.0.0.1", int(line.split()[-1]))) as connection:
            assert b"work()" in read_to(connection.fileno(), b"(Pdb) ")
            connection.sendall(TYPED)
            assert b"42" in read_to(connection.fileno(), b"42\n")
            assert process.stdout.read() == "43\n"
        assert process.wait() == 0


@pytest.mark.parametrize("factory", ["InlineWorkerFactory()", "'thread'"])
def test_breakpoint_in_the_callers_process(factory: str, tmp_path: Path) -> None:
    code = f"""
import asyncio
from offloop import WorkerPool
from offloop.testing import InlineWorkerFactory

def work(number):
    double = number * 2
    breakpoint()
    return double

async def main():
    async with WorkerPool(1, factory={factory}) as pool:
        print(await pool.submit(work, 21))

asyncio.run(main())
"""
    script = tmp_path / "breakpoint.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], input=TYPED, capture_output=True, env=script_environment(), check=True
    )
    assert b"(Pdb) 42\n" in done.stdout
    assert done.stdout.endswith(b"43\n")
