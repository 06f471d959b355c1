from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from crkd.core import atomic_write
from crkd.core.atomic_write import clear_unfinished, is_unfinished, whole_file, write_bytes


def test_a_whole_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")
    with whole_file(place) as unfinished:
        unfinished.write_text("new")
        assert place.read_text() == "old"
        assert is_unfinished(unfinished)
    assert place.read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_file_leaves_the_old_one(error: type[BaseException], tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")

    def interrupted() -> None:
        with whole_file(place) as unfinished:
            unfinished.write_text("half of the n")
            raise error

    with pytest.raises(error):
        interrupted()
    assert place.read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_leaves_is_cleared(tmp_path: Path) -> None:
    # The context manager of a killed process never ends.
    file = whole_file(tmp_path / "file")
    file.__enter__().write_text("half of the n")
    clear_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())


def test_permissions_are_those_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"")
    write_bytes(tmp_path / "pieces", b"")
    with whole_file(tmp_path / "whole") as unfinished:
        unfinished.write_bytes(b"")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes["pieces"] == modes["whole"] == modes["new"]


def test_the_name_of_an_unfinished_file_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        with whole_file(tmp_path / "file") as unfinished:
            names.add(unfinished.name)
            unfinished.write_bytes(b"")
    assert len(names) == 2


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_drive_without_permissions_can_be_written(
    reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("crkd.core.atomic_write.os.chmod", refused)
    write_bytes(tmp_path / "file", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"new")]


def test_a_whole_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss, a renamed file whose content was not written is empty."""
    order: list[str] = []
    for name in ("fsync", "replace"):
        honest = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, n=name, f=honest, **more: (order.append(n), f(*args, **more))[1]
        )
    with whole_file(tmp_path / "file") as unfinished:
        unfinished.write_bytes(b"new")
    assert order == ["fsync", "replace"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells its umask")
def test_the_umask_is_read_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(mask: int) -> int:
        raise AssertionError(f"another thread would make files with {mask}")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refused)
            assert atomic_write._umask() == 0o027
    finally:
        os.umask(before)
