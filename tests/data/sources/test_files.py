from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.data.encoded.folder import EncodedFolder
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import SAMPLED
from crkd.data.sources.files import FileSource, image_files, left_out


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    folder = made(
        tmp_path / "photos", "a/1.jpg", "a/IMG_1.HEIC", "b/notes.txt", "2.PNG", "none", ".hidden"
    )
    made(folder, "shard.tar", "table.parquet", ".git/config")
    assert left_out(folder) == (
        f"3 files are not images by the suffix and left out of {str(folder)!r}: none, "
        "a/IMG_1.HEIC, b/notes.txt"
    )
    assert left_out(made(tmp_path / "one", "x.heic", "y.png")).startswith(
        "1 file is not an image by"
    )


def test_the_first_few_are_named_and_all_are_counted(tmp_path: Path) -> None:
    folder = made(tmp_path / "many", *(f"{number}.txt" for number in range(8)))
    text = left_out(folder)
    assert text.startswith("8 files")
    assert text.endswith(": 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, ...")


@pytest.mark.parametrize("names", [(), ("a.png",), (".x.txt",)])
def test_nothing_is_said_of_images_and_hidden_files(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert left_out(made(tmp_path, *names)) == ""
    assert left_out(tmp_path / "absent") == ""


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_bytes(b"")
    assert left_out(tmp_path).endswith(": \\xff.txt")


@pytest.mark.parametrize(
    "read",
    [lambda place: list(image_files(place)), left_out, lambda place: len(EncodedFolder(place))],
)
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    folder, scan = made(tmp_path, "a/1.png", "b/2.png"), os.scandir

    def refusing(place: str) -> Any:
        if Path(place).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return scan(place)

    read(folder)
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"/b' cannot be read \(Permission denied\); allow"):
        read(folder)


def test_a_folder_that_is_deleted_during_the_walk_has_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = image_files(made(tmp_path, "0.png", "a/1.png", "b/2.png"))
    assert next(files).name == "0.png"
    shutil.rmtree(tmp_path / "a")
    assert [path.name for path in files] == ["2.png"]
    with pytest.raises(InputError, match="absent' cannot be read"):
        list(image_files(tmp_path / "absent"))


def test_the_digest_of_files_follows_names_sizes_and_content(tmp_path: Path) -> None:
    """Of many files every size counts, and the content of some."""

    def digest() -> bytes:
        paths = sorted(tmp_path.iterdir())
        return FileSource(paths, [0] * len(paths), ["a"], [p.name for p in paths]).content_digest()

    for number in range(SAMPLED + 1):
        (tmp_path / f"{number:04}.png").write_bytes(b"0123")
    first = digest()
    assert digest() == first
    (tmp_path / "0001.png").write_bytes(b"01234")
    other_size = digest()
    (tmp_path / "0001.png").write_bytes(b"0123")
    (tmp_path / "0002.png").write_bytes(b"9123")
    other_content = digest()
    (tmp_path / "0002.png").rename(tmp_path / "0002b.png")
    other_name = digest()
    (tmp_path / "0002b.png").rename(tmp_path / "0002.png")
    (tmp_path / "0002.png").write_bytes(b"0123")
    assert digest() == first
    assert len({first, other_size, other_content, other_name}) == 4


def test_the_digest_of_an_array_is_that_of_its_pixels_without_labels() -> None:
    images = np.zeros((4, 5, 5, 3), np.uint8)
    first = ArraySource(images, [0, 1, 0, 1], ["a", "b"]).content_digest()
    assert ArraySource(images, [1, 1, 0, -1], ["a", "c"]).content_digest() == first
    assert ArraySource(images.transpose(0, 3, 1, 2), [0] * 4, ["a"]).content_digest() == first
    images[3, 4, 4, 2] = 1
    assert ArraySource(images, [0, 1, 0, 1], ["a", "b"]).content_digest() != first
