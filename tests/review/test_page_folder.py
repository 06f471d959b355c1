"""The folder of thumbnails next to a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crkd.review import page_folder
from crkd.review.page_folder import written_sheets

ROWS = np.arange(3)


@pytest.fixture(params=[0o022, 0o077], ids=["shared", "private"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_the_folder_is_as_private_as_others_of_the_user(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(images: Any, rows: Any, folder: Path) -> tuple[int, np.ndarray]:
        (folder / "0.jpg").write_bytes(b"picture")
        return 32, np.ones(len(rows), np.bool_)

    monkeypatch.setattr(page_folder, "write_sheets", write)
    images: Any = None
    folder = tmp_path / "page.files"
    _, readable, size = written_sheets(images, ROWS, folder)
    assert (readable.all(), size) == (True, 7)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (folder / "0.jpg").stat().st_mode & 0o777 == 0o666 & ~umask
