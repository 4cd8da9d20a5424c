"""What a crash report says, and what it leaves out."""

from __future__ import annotations

import pickle
import signal
from typing import Any

import pytest

from offloop import CallableTask
from offloop.crashreport import MAX_QUOTE, crash_report, human_size, user_stack
from offloop.link import Exit

TASK: CallableTask[Any] = CallableTask(pow, 2, 8)


def message(code: int | None, *, task: CallableTask[Any] | None = TASK, **facts: Any) -> str:
    return str(crash_report(Exit(code, False, **{"pid": 4121, **facts}), 1, task))


class TestMessage:
    def test_of_a_victim_of_the_oom_killer(self) -> None:
        assert message(-signal.SIGKILL, out_of_memory=True, peak_rss=3_328_599_654) == (
            "worker 4121 was killed by SIGKILL while running pow(2, 8); "
            "the kernel's OOM killer was active; peak memory 3.1 GiB"
        )

    @pytest.mark.parametrize("verdict", [False, None])
    def test_without_evidence_the_oom_killer_is_not_named(self, verdict: bool | None) -> None:
        assert "OOM" not in message(-signal.SIGKILL, out_of_memory=verdict)

    def test_of_an_exit(self) -> None:
        assert message(3) == "worker 4121 exited with code 3 while running pow(2, 8)"

    def test_of_a_segmentation_fault_points_to_the_stack(self) -> None:
        text = message(-signal.SIGSEGV, stack="Fatal Python error: Segmentation fault")
        assert text == (
            "worker 4121 was killed by SIGSEGV while running pow(2, 8); its Python stack is in .stack"
        )

    def test_of_a_signal_without_a_name(self) -> None:
        assert "was killed by signal 200" in message(-200)

    def test_of_an_end_that_nobody_knows(self) -> None:
        assert message(None, pid=None, task=None) == "worker 1 disappeared"

    def test_the_last_line_on_stderr_is_quoted(self) -> None:
        assert message(1, output="first\n  malloc failed \n\n").endswith("; last on stderr: malloc failed")

    def test_a_long_last_line_is_cut(self) -> None:
        quoted = message(1, output="x" * 5000).partition("last on stderr: ")[2]
        assert quoted == "x" * (MAX_QUOTE - 1) + "…"

    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 KiB"),
            (52_428_800, "50.0 MiB"),
            (209_715_200, "200 MiB"),
            (1 << 40, "1.0 TiB"),
            (1 << 60, "1048576 TiB"),
        ],
    )
    def test_sizes_are_for_people(self, count: int, text: str) -> None:
        assert human_size(count) == text


DUMP = """\
Fatal Python error: Segmentation fault

Thread 0x00007f0000000001 (most recent call first):
  File "/site/offloop/child/control.py", line 70 in _receive
  File "/site/offloop/child/control.py", line 57 in _serve

Thread 0x00007f0000000002 [helper] (most recent call first):
  File "/home/me/helper.py", line 3 in wait
  File "/usr/lib/python3.11/threading.py", line 982 in run

Current thread 0x00007f0000000003 (most recent call first):
  File "/home/me/image.py", line 7 in read
  File "/home/me/image.py", line 4 in resize
  File "/site/offloop/child/runner.py", line 222 in run_task
  File "/site/offloop/child/runner.py", line 190 in _work_off
  File "/site/offloop/child/process.py", line 55 in run_worker
  File "/site/offloop/child/template.py", line 260 in main
  File "<string>", line 1 in <module>

Extension modules: numpy.core._multiarray_umath (total: 1)
"""


class TestStack:
    def test_only_the_users_frames_are_left(self) -> None:
        assert user_stack(DUMP) == (
            "Fatal Python error: Segmentation fault\n\n"
            "Thread 0x00007f0000000002 [helper] (most recent call first):\n"
            '  File "/home/me/helper.py", line 3 in wait\n'
            '  File "/usr/lib/python3.11/threading.py", line 982 in run\n\n'
            "Current thread 0x00007f0000000003 (most recent call first):\n"
            '  File "/home/me/image.py", line 7 in read\n'
            '  File "/home/me/image.py", line 4 in resize\n\n'
            "Extension modules: numpy.core._multiarray_umath (total: 1)"
        )

    def test_of_a_coroutine_ends_where_its_loop_runs_it(self) -> None:
        dump = (
            "Current thread 0x1 (most recent call first):\n"
            '  File "/home/me/fetch.py", line 7 in fetch\n'
            '  File "/site/offloop/child/overlap.py", line 150 in _settle\n'
            '  File "/usr/lib/python3.11/asyncio/events.py", line 80 in _run\n'
        )
        assert user_stack(dump).endswith("in fetch")

    def test_without_the_gil_there_is_one_thread_without_a_name(self) -> None:
        head = (
            "Fatal Python error: Segmentation fault\n\n"
            "<Cannot show all threads while the GIL is disabled>\n"
            "Stack (most recent call first):\n"
        )
        dump = (
            f"{head}"
            '  File "/home/me/image.py", line 7 in read\n'
            '  File "/site/offloop/child/runner.py", line 222 in run_task\n'
            '  File "<string>", line 1 in <module>\n\n'
            "Current thread's C stack trace (most recent call first):\n"
            '  Binary file "python3.14t" [0x1]'
        )
        assert user_stack(dump) == (
            f'{head}  File "/home/me/image.py", line 7 in read\n\n'
            "Current thread's C stack trace (most recent call first):\n"
            '  Binary file "python3.14t" [0x1]'
        )

    def test_of_what_was_being_unpickled_ends_before_the_codec(self) -> None:
        dump = (
            "Current thread 0x1 (most recent call first):\n"
            '  File "/home/me/shape.py", line 7 in __setstate__\n'
            '  File "/site/offloop/wire/codec.py", line 90 in decode\n'
            '  File "/site/offloop/child/port.py", line 170 in _decode\n'
            '  File "/site/offloop/child/runner.py", line 215 in run_task\n'
        )
        assert user_stack(dump).endswith("in __setstate__")

    def test_a_death_in_offloops_own_code_is_shown_whole(self) -> None:
        dump = (
            "Current thread 0x1 (most recent call first):\n"
            '  File "/site/offloop/child/port.py", line 140 in receive\n'
            '  File "/site/offloop/child/runner.py", line 215 in next_records'
        )
        assert user_stack(dump) == dump

    def test_a_dump_that_was_cut_anywhere_is_survived(self) -> None:
        for end in range(len(DUMP)):
            assert isinstance(user_stack(DUMP[:end]), str)

    def test_it_is_among_the_notes_also_after_pickling(self) -> None:
        report = crash_report(Exit(-11, False, stack=DUMP), 1, TASK)
        copy = pickle.loads(pickle.dumps(report))
        assert copy.stack == report.stack
        [note] = copy.__notes__
        assert "line 4 in resize" in note
