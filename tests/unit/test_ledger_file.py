"""The memory that a ledger lies in: sealed where that is allowed, else a file without a name."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from functools import partial

import pytest

from offloop.shm.ledger import SIZE, create_file


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there are no seals")
@pytest.mark.parametrize("change", [lambda fd: os.truncate(fd, 0), lambda fd: os.truncate(fd, SIZE * 2)])
def test_no_worker_can_resize_the_page_under_its_parent(change: Callable[[int], None]) -> None:
    fd = create_file()
    with pytest.raises(PermissionError):
        change(fd)
    assert os.fstat(fd).st_size == SIZE
    os.close(fd)


def test_without_memfd_it_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    fd = create_file()
    try:
        assert os.fstat(fd).st_nlink == 0
        assert os.fstat(fd).st_size == SIZE
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def refuse(*_: object) -> int:
    raise PermissionError("forbidden here")


@pytest.mark.parametrize("name", ["os.memfd_create", "fcntl.fcntl"])
def test_where_memfd_is_forbidden_it_is_such_a_file_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name, refuse, raising=False)
    fd = create_file()
    try:
        assert os.fstat(fd).st_nlink == 0
        assert os.fstat(fd).st_size == SIZE
    finally:
        os.close(fd)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_a_full_disk_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "r+b"))
    with pytest.raises(OSError, match="No space left"):
        create_file()


def test_without_a_descriptor_for_memfd_no_file_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_one_more(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse_one_more, raising=False)
    with pytest.raises(OSError, match="too many open files"):
        create_file()
