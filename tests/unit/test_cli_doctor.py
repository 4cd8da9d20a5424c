"""``offloop doctor`` and ``offloop bench``."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest
from support import no_pidfds

from offloop.cli import bench, doctor, machine, main
from offloop.cli.doctor import as_text, findings
from offloop.cli.machine import Finding


def test_the_doctor_finds_this_machine_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    verdicts = {line[6:21].strip(): line[:6].strip() for line in lines}
    assert set(verdicts.values()) <= {"ok", "note", "none"}
    assert verdicts["process"] == verdicts["thread"] == verdicts["python"] == "ok"
    process = next(line for line in lines if line[6:].startswith("process "))
    assert "first worker ready in" in process


def test_a_check_that_raises_is_a_failure_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Finding:
        raise OSError("no such luck")

    def fine() -> Finding:
        return Finding("ok", "shoes", "tied")

    assert [*findings([("hat", broken), ("shoes", fine)])] == [
        Finding("FAIL", "hat", "OSError: no such luck"),
        Finding("ok", "shoes", "tied"),
    ]
    monkeypatch.setattr(doctor, "MACHINE", [("hat", broken)])
    monkeypatch.setattr(doctor, "CONTEXTS", {})
    assert main(["doctor"]) == 1


def test_on_a_narrow_terminal_a_finding_has_several_lines() -> None:
    finding = Finding("ok", "hat", "it is large, and made of felt, and green all over")
    assert as_text(finding, None) == "ok    hat            it is large, and made of felt, and green all over"
    lines = as_text(finding, 48).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(" " * 21)
    assert max(map(len, lines)) <= 48


def check(subject: str) -> Finding:
    return dict(machine.MACHINE)[subject]()


def test_memory_that_cannot_be_found_out_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_proc() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(machine.psutil, "virtual_memory", no_proc)
    assert check("memory").verdict == "note"


def test_what_bounds_this_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(machine, "cgroup_quota", lambda: 1.5)
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2)
    monkeypatch.setattr(machine, "cgroup_memory", lambda: 100 * 2**20)
    monkeypatch.setattr(machine, "cgroup_processes", lambda: 20)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (66, 66))
    cores = check("cores")
    assert cores.text.startswith("2 of 64 usable, ")
    assert cores.text.endswith(" (the affinity mask has 8, the control group's quota is 1.5)")
    assert check("memory").text.endswith("100 MiB the limit of the control group: few workers will find room")
    assert [check(each).verdict for each in ("cores", "memory", "descriptors", "processes")] == [
        "ok",
        "note",
        "note",
        "note",
    ]


def test_pools_that_compile_offloop_each_time_are_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import_module("offloop.child.template")  # by whose __spec__ there would be some
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert check("bytecode") == Finding("ok", "bytecode", "it is written by the first pool")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    noted = check("bytecode")
    assert noted.verdict == "note"
    command = noted.text.rpartition("run once: ")[2].split()
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "cache")}
    subprocess.run(command, env=environment, check=True)
    assert check("bytecode").text == "there is some, which each pool starts with"


def test_one_core_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 1)
    assert check("cores").verdict == "note"


@pytest.fixture
def no_fork_server() -> Iterator[None]:
    """Ends what the standard library starts for its pools from Python 3.14 on, and keeps."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("no_fork_server")
def test_bench_measures_both_sides(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CALLS", "_AT_ONCE", "_AT_ONCE_STDLIB", "_MAPPED", "_LARGE", "_TIMES"):
        monkeypatch.setattr(bench, name, 2)
    assert main(["bench", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 worker" in lines[0]
    assert "ProcessPoolExecutor (" in lines[1]
    assert [line[:34].strip() for line in lines[2:7]] == [name for name, _ in bench._ROWS]
    assert all(line.endswith(" x") for line in lines[2:7])


def test_the_table_shows_times_and_rates_and_how_many_times_faster() -> None:
    own, stdlib = bench.Timing(0.1, 50e-6, 0.2, 1e-5, 1e-6), bench.Timing(0.05, 150e-6, 1.0, 1e-4, 5e-6)
    rows = [line.split()[-6:] for line in bench.table(own, stdlib, "other")][1:]
    assert rows[0][-6:] == ["100", "ms", "50", "ms", "0.5", "x"]
    assert rows[1][-6:] == ["50", "µs", "150", "µs", "3.0", "x"]
    assert rows[3][-4:] == ["100,000/s", "10,000/s", "10.0", "x"]


def test_bench_has_no_zero_workers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--workers", "0"])
    assert "whole number above 0" in capsys.readouterr().err


def test_what_a_system_lacks_is_said_and_no_limit_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(machine, "cgroup_processes", lambda: None)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert check("shared memory").verdict == "none"
    assert check("pidfd").verdict == "none"
    assert check("descriptors") == Finding("ok", "descriptors", "no limit")
    assert check("processes") == Finding("ok", "processes", "no limit")


def test_what_a_system_refuses_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memfd_create", "pidfd_open"):
        monkeypatch.setattr(os, name, no_pidfds.refuse, raising=False)
    assert check("shared memory").verdict == "none"
    assert check("pidfd").verdict == "none"


def test_ignored_children_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    assert check("pidfd").verdict == "note"
