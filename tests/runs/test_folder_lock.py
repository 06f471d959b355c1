from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.folder_lock import locked


def test_a_second_lock_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with locked(folder, flag="--state", busy="it is busy"):
        (folder / "file").touch()
        with (
            pytest.raises(InputError, match="it is busy"),
            locked(folder, flag="", busy="it is busy"),
        ):
            pass
    with locked(folder, flag="--state", busy="it is busy"):
        pass
    assert (folder / "file").exists()


def test_an_empty_folder_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", flag="--state", busy=""):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"--state: .* cannot be made"),
        locked(tmp_path / "file" / "state", flag="--state", busy=""),
    ):
        pass
