"""The contract for authors of contexts, over a fake cluster: whatever the engine, this is the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import fakeengine

from offloop.testing import worker_contract


@pytest.fixture(scope="module")
def cluster() -> Iterator[fakeengine.Cluster]:
    """One for all tests, as a real one would be."""
    with fakeengine.machine() as cluster:
        yield cluster


class TestCluster(worker_contract.WorkerContract):
    """Workers on a cluster whose engine does as it should."""

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster: fakeengine.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        factory: Any = staticmethod(cluster.factory)
        monkeypatch.setattr(TestCluster, "factory", factory, raising=False)
