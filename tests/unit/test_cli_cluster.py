"""``offloop map --cluster`` and ``offloop doctor --cluster``, on a cluster in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from support.fakeengine import Cluster

from offloop.cli import clusters, doctor, main, run

Output = pytest.CaptureFixture[str]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """What every address leads to."""
    cluster = Cluster()

    def factory(address: str, start_timeout: float = 60.0) -> Any:
        return cluster.factory(start_timeout=start_timeout)

    monkeypatch.setattr(run, "cluster_factory", factory)
    monkeypatch.setattr(doctor, "cluster_factory", factory)
    return cluster


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is a module nowhere but here."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    file = tmp_path / "only_here.py"
    file.write_text(
        "import sys\nFACTOR = 3\ndef f(text): return FACTOR * int(text), 'only_here' in sys.modules\n"
    )
    yield file
    if "only_here" in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.unregister_pickle_by_value(sys.modules["only_here"])
    sys.modules.pop("only_here", None)


def test_there_are_as_many_workers_as_the_cluster_has_cpus(cluster: Cluster, capfd: Output) -> None:
    cluster.machines = 3
    arguments = ["support.tasks:echo", *map(str, range(100)), "--cluster", "tcp://scheduler:8786"]
    assert main(["map", *arguments]) == 0
    assert [json.loads(line) for line in capfd.readouterr().out.split()] == [*map(str, range(100))]
    assert 1 <= len(cluster.seats) <= 3
    assert cluster.closed == 2  # the connection that asked, and the pool's


def test_workers_bounds_them(cluster: Cluster, capfd: Output) -> None:
    arguments = ["--workers", "1", "--cluster", "ray", *map(str, range(10))]
    assert main(["map", "support.tasks:echo", *arguments]) == 0
    assert len(cluster.seats) == 1


def test_the_code_of_a_file_travels_with_the_tasks(cluster: Cluster, there: Path, capfd: Output) -> None:
    assert main(["map", f"{there}:f", "1", "2", "--cluster", "tcp://scheduler:8786"]) == 0
    assert capfd.readouterr().out == "[3, false]\n[6, false]\n"


def test_a_cluster_that_cannot_be_reached_is_told_in_one_line(cluster: Cluster, capfd: Output) -> None:
    cluster.refuse = OSError("nobody\nthere")
    assert main(["map", "support.tasks:echo", "1", "--cluster", "tcp://scheduler:8786"]) == 2
    assert capfd.readouterr().err == "offloop map: tcp://scheduler:8786: OSError: nobody there\n"
    assert main(["doctor", "--cluster", "tcp://scheduler:8786"]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "FAIL  cluster        OSError: nobody there"


def test_a_cluster_without_a_cpu_has_room_for_nothing(cluster: Cluster, capfd: Output) -> None:
    cluster.machines = 0
    assert main(["map", "support.tasks:echo", "1", "--cluster", "tcp://scheduler:8786"]) == 2
    assert "has no CPU for a worker; give --workers N" in capfd.readouterr().err
    assert main(["doctor", "--cluster", "tcp://scheduler:8786"]) == 1
    assert "tcp://scheduler:8786 has no CPU for a worker" in capfd.readouterr().out


def test_the_doctor_tries_a_worker_there(
    cluster: Cluster, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CONTEXTS", {})
    assert main(["doctor", "--cluster", "tcp://scheduler:8786"]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("ok    cluster        2 machines with 2 CPUs; first worker ready in ")
    assert last.endswith(" ms there and back")


@pytest.mark.parametrize("command", [["map", "support.tasks:echo", "1"], ["doctor"]])
@pytest.mark.parametrize("address", ["scheduler:8786", "tcp://", "://x", ""])
def test_what_is_no_address_is_refused(command: list[str], address: str, capfd: Output) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--cluster", address])
    assert "--cluster: must be ray://HOST:PORT or ray for Ray, or tcp://HOST:PORT" in capfd.readouterr().err


def test_a_cluster_is_a_context_already(capfd: Output) -> None:
    assert main(["map", "support.tasks:echo", "1", "--cluster", "ray", "--context", "thread"]) == 2
    assert "--cluster and --context exclude each other" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [("ray", "ray", "ray"), ("ray://head:10001", "ray", "ray"), ("tcp://a:1", "distributed", "dask")],
)
def test_where_the_engine_is_not_installed_the_command_says_how_to_get_it(
    address: str, module: str, extra: str, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(doctor, "CONTEXTS", {})
    assert main(["map", "support.tasks:echo", "1", "--cluster", address]) == 2
    assert f"pip install 'offloop[{extra}]'" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(doctor, "_EXTRAS", {})  # which look for the modules that are hidden here
        assert main(["doctor", "--cluster", address]) == 1
    assert f"pip install 'offloop[{extra}]'" in capfd.readouterr().out.splitlines()[-1]


def test_each_form_of_address_means_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", sys)
    monkeypatch.setitem(sys.modules, "distributed", sys)
    named = {each: clusters.cluster_factory(each) for each in ("ray", "ray://head:10001", "tls://a:1")}
    assert [type(each).__name__ for each in named.values()] == [
        "RayWorkerFactory",
        "RayWorkerFactory",
        "DaskWorkerFactory",
    ]
    ray: list[Any] = list(named.values())[:2]
    assert [each.address for each in ray] == ["auto", "ray://head:10001"]
