"""Pictures are PNG files, whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from crkd.core.errors import InputError
from crkd.core.plots import save_plot


def test_a_picture_is_a_png_whatever_its_name_and_its_folder_is_created(tmp_path: Path) -> None:
    save_plot(Figure(figsize=(2.0, 1.0)), tmp_path / "new" / "picture.jpg", dpi=60)
    with Image.open(tmp_path / "new" / "picture.jpg") as image:
        assert (image.format, image.size) == ("PNG", (120, 60))


def test_a_full_disk_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    save_plot(Figure(figsize=(2.0, 1.0)), path)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("crkd.core.atomic_write.os.fsync", full)
    with pytest.raises(InputError, match=r"picture\.png cannot be written \(No space left"):
        save_plot(Figure(figsize=(4.0, 1.0)), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
