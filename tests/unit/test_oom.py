"""What the kernel's counters say of a worker that was killed, on machines made of files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from offloop.contexts.oom import TOGETHER, OomWatch, victims


class Machine:
    """A root folder with ``proc`` and ``sys``, and a clock."""

    def __init__(self, root: Path, cgroup: str | None = None) -> None:
        self.root = root
        self.now = 0.0
        (root / "proc/self").mkdir(parents=True)
        if cgroup is not None:
            (root / "proc/self/cgroup").write_text(cgroup)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def watch(self) -> OomWatch:
        return OomWatch(self.root, lambda: self.now)


EVENTS = "sys/fs/cgroup/app/memory.events"


def events(count: int) -> str:
    return f"low 0\nhigh 3\nmax 17\noom 9\noom_kill {count}\noom_group_kill 8\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path, "0::/app\n")
    made.write(EVENTS, events(2))
    return made


class TestVictims:
    def test_where_nothing_can_be_read_nothing_is_known(self, tmp_path: Path) -> None:
        assert victims(Machine(tmp_path).root) is None

    def test_of_a_group_of_version_2(self, machine: Machine) -> None:
        assert victims(machine.root) == 2

    def test_the_nearest_group_that_can_be_read_counts(self, machine: Machine) -> None:
        machine.write("proc/self/cgroup", "0::/app/below/further\n")
        machine.write("sys/fs/cgroup/memory.events", events(99))
        assert victims(machine.root) == 2

    def test_in_a_container_the_group_is_the_mount_itself(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "0::/docker/0123456789abcdef\n")
        machine.write("sys/fs/cgroup/memory.events", events(4))
        assert victims(machine.root) == 4

    def test_of_a_group_of_version_1(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/app\n0::/\n")
        machine.write(
            "sys/fs/cgroup/memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n"
        )
        assert victims(machine.root) == 6

    def test_an_old_kernel_that_does_not_count_by_group_leaves_the_machines_counter(
        self, tmp_path: Path
    ) -> None:
        machine = Machine(tmp_path, "4:memory:/app\n")
        machine.write("sys/fs/cgroup/memory/app/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
        machine.write("proc/vmstat", "nr_free_pages 1\noom_kill 3\npgfault 7\n")
        assert victims(machine.root) == 3

    @pytest.mark.parametrize("text", ["", "oom_kill", "oom_kill many\n", "\0\xff"])
    def test_nonsense_is_no_counter(self, machine: Machine, text: str) -> None:
        machine.write(EVENTS, text)
        assert victims(machine.root) is None

    @pytest.mark.parametrize("text", ["", "::", "0", "0::", "0::/../../elsewhere\n"])
    def test_a_strange_list_of_groups_is_survived(self, machine: Machine, text: str) -> None:
        machine.write("proc/self/cgroup", text)
        machine.write("proc/vmstat", "oom_kill 1\n")
        assert victims(machine.root) == 1


class TestWatch:
    def test_a_counter_that_rose_is_evidence_and_one_that_did_not_is_evidence_against(
        self, machine: Machine
    ) -> None:
        watch = machine.watch()
        assert watch.check() is False
        machine.write(EVENTS, events(3))
        assert watch.check() is True
        assert watch.check() is False, "the one victim has been found"

    def test_victims_that_died_together_are_each_found(self, machine: Machine) -> None:
        watch = machine.watch()
        machine.write(EVENTS, events(4))
        assert [watch.check() for _ in range(3)] == [True, True, False]

    def test_a_victim_that_was_no_worker_is_not_put_down_to_one_later(self, machine: Machine) -> None:
        watch = machine.watch()
        machine.write(EVENTS, events(4))
        assert watch.check() is True
        machine.now += TOGETHER + 1
        assert watch.check() is False

    def test_without_a_counter_nothing_is_known(self, machine: Machine) -> None:
        watch = machine.watch()
        (machine.root / EVENTS).unlink()
        assert watch.check() is None
        machine.write(EVENTS, events(9))
        assert watch.check() is None, "there is nothing to compare it with"
        assert watch.check() is False

    def test_only_an_unknown_hands_sigkill_is_looked_into(self, machine: Machine) -> None:
        watch = machine.watch()
        machine.write(EVENTS, events(3))
        assert watch.verdict(None, asked=False) is None
        assert watch.verdict(1, asked=False) is False
        assert watch.verdict(-signal.SIGSEGV, asked=False) is False
        assert watch.verdict(-signal.SIGKILL, asked=True) is False
        assert watch.verdict(-signal.SIGKILL, asked=False) is True
