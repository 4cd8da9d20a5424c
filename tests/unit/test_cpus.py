"""How many CPUs a process may use, on machines made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offloop.cpus import cgroup_memory, cgroup_processes, cgroup_quota, usable_cpus


class Machine:
    """A root folder with ``proc`` and ``sys``."""

    def __init__(self, root: Path, cgroup: str | None) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        if cgroup is not None:
            (root / "proc/self/cgroup").write_text(cgroup)

    def write(self, path: str, text: str) -> None:
        file = self.root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(Machine(tmp_path, None).root) is None


def test_version_2(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/user.slice/app\n")
    machine.write("user.slice/app/cpu.max", "150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5


def test_version_2_without_a_limit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/app\n")
    machine.write("app/cpu.max", "max 100000\n")
    assert cgroup_quota(tmp_path) is None


def test_the_tightest_of_a_group_and_those_above_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/above/app\n")
    machine.write("above/app/cpu.max", "400000 100000\n")
    machine.write("above/cpu.max", "250000 100000\n")
    machine.write("cpu.max", "max 100000\n")
    assert cgroup_quota(tmp_path) == 2.5


def test_in_a_container_the_group_is_the_mount_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/docker/0123456789abcdef\n")
    machine.write("cpu.max", "200000 100000\n")
    assert cgroup_quota(tmp_path) == 2.0


def test_version_1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "4:cpu,cpuacct:/app\n3:memory:/app\n0::/\n")
    machine.write("cpu,cpuacct/app/cpu.cfs_quota_us", "50000\n")
    machine.write("cpu,cpuacct/app/cpu.cfs_period_us", "100000\n")
    machine.write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    machine.write("cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path) == 0.5


@pytest.mark.parametrize("text", ["", "garbage", "100000", "max", "1 2 3", "100000 zero", "0 100000", "1 0"])
def test_a_file_that_says_nothing_sensible_is_passed_over(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path, "0::/app\n")
    machine.write("app/cpu.max", text)
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize("text", ["garbage\n", "\n", "0:/app\n", "0::/app with: colon\n"])
def test_a_list_of_groups_that_makes_no_sense_is_passed_over(tmp_path: Path, text: str) -> None:
    assert cgroup_quota(Machine(tmp_path, text).root) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"), [(8, 250, 3), (2, 400, 2), (8, 10, 1), (1, 50, 1)]
)
def test_affinity_and_quota_both_bound_and_a_quota_is_rounded_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affinity: int, quota: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    machine = Machine(tmp_path, "0::/\n")
    machine.write("cpu.max", f"{quota * 1000} 100000\n")
    assert usable_cpus(tmp_path) == expected


def test_where_there_is_no_affinity_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cpus(tmp_path) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


def test_this_machine_has_at_least_one(tmp_path: Path) -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


def test_memory_and_processes_of_version_2(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/app\n")
    machine.write("app/memory.max", "max\n")
    machine.write("memory.max", "536870912\n")
    machine.write("app/pids.max", "100\n")
    assert cgroup_memory(tmp_path) == 512 * 2**20
    assert cgroup_processes(tmp_path) == 100


def test_memory_of_version_1_knows_no_word_for_no_limit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "9:memory:/app\n")
    machine.write("memory/app/memory.limit_in_bytes", "9223372036854771712\n")
    assert cgroup_memory(tmp_path) is None
    machine.write("memory/app/memory.limit_in_bytes", "1048576\n")
    assert cgroup_memory(tmp_path) == 2**20
    assert cgroup_processes(tmp_path) is None


def test_a_controller_is_found_by_its_own_name_where_it_is_mounted_with_others(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "4:cpuacct,cpu:/app\n")
    machine.write("cpu/app/cpu.cfs_quota_us", "50000\n")
    machine.write("cpu/app/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(tmp_path) == 0.5
