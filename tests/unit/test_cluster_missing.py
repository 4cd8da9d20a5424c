"""Where an engine is not installed, its factory says how to get it."""

from __future__ import annotations

import sys

import pytest

import offloop


def test_without_ray_its_factory_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'offloop\[ray\]'"):
        offloop.RayWorkerFactory()


def test_without_dask_its_factory_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'offloop\[dask\]'"):
        offloop.DaskWorkerFactory("tcp://127.0.0.1:8786")
