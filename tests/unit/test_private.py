"""Private sockets: where they may lie, and who may listen there."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from offloop.observe.private import ask, default_folder, default_path, is_own, listen, make_private


def test_a_folder_is_made_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    before = os.umask(0)
    try:
        make_private(str(folder))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    make_private(str(folder))


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError, match="0700"):
        listen(str(tmp_path / "a.sock"))
    assert os.listdir(tmp_path) == []


def test_a_link_to_a_private_folder_is_refused(tmp_path: Path) -> None:
    folder, link = tmp_path / "private", tmp_path / "link"
    make_private(str(folder))
    link.symlink_to(folder)
    with pytest.raises(PermissionError):
        make_private(str(link))


def test_a_socket_is_its_owners_alone_and_answers(tmp_path: Path) -> None:
    path = str(tmp_path / "private" / "a.sock")
    with listen(path) as listener, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        client.connect(path)
        connection, _ = listener.accept()
        with connection:
            assert is_own(connection)


def test_a_socket_left_by_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "private" / "a.sock")
    listen(path).close()  # the name stays
    assert os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        ask(path)
    listen(path).close()


def test_nobody_is_pushed_aside(tmp_path: Path) -> None:
    path = str(tmp_path / "private" / "a.sock")
    with listen(path), pytest.raises(OSError, match="somebody listens"):
        listen(path)
    file = tmp_path / "private" / "file"
    file.write_text("precious")
    with pytest.raises(FileExistsError):
        listen(str(file))
    assert file.read_text() == "precious"


def test_a_path_that_is_too_long_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="103 bytes"):
        listen(str(tmp_path / ("x" * 110)))


def test_where_sockets_are_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path(7) == str(tmp_path / "offloop" / "7.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert default_folder().endswith(f"offloop-{os.geteuid()}")
