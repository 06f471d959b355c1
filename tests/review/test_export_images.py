"""Copies of reviewed images: the same bytes and permissions, all of them or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource, UnreadableImageError
from crkd.data.sources.files import FileSource
from crkd.data.splits.partition import Subset
from crkd.review import export_images
from crkd.review.export_images import write_images

NAMES = ["cat", "a/b"]
LABELS = np.array([1, 0, -1, 1])


def part(source: ImageSource) -> Subset:
    return Subset(source, np.arange(len(source)), source.labels, list(source.ids))


@pytest.fixture
def images(tmp_path: Path) -> Subset:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (3_000_000 if number == 3 else 10))
        path.chmod(0o400)
    return part(FileSource(paths, [-1] * 4, [], [path.name for path in paths]))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def write(run: Path, images: Subset) -> None:
    write_images(run, "folder", images, LABELS, NAMES, (), {})


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_copies_have_the_bytes_of_the_files_and_the_permissions_of_new_ones(
    images: Subset, run: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        write(run, images)
    finally:
        os.umask(before)
    found = {str(p.relative_to(run)): p for p in run.rglob("*") if p.is_file()}
    names = ["images/a_b/000000-0.jpg", "images/cat/000001-1.jpg", "images/a_b/000003-3.jpg"]
    assert sorted(found) == sorted(names)
    for name, row in zip(names, (0, 1, 3), strict=True):
        assert found[name].read_bytes() == (run.parent / f"{row}.jpg").read_bytes()
        assert found[name].stat().st_mode & 0o777 == 0o666 & ~mask
    for folder in (run / "images", run / "images/cat"):
        assert folder.stat().st_mode & 0o777 == 0o777 & ~mask


def test_no_copy_is_forced_to_the_disk(
    images: Subset, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a copy was forced to the disk"))
    write(run, images)
    assert len(list((run / "images").rglob("*.jpg"))) == 3


def test_images_without_a_file_are_written_as_they_are(run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    write(run, part(ArraySource(pixels, [-1] * 4, [])))
    with Image.open(run / "images/cat/000001-00001.png") as image:
        assert np.array_equal(np.asarray(image), pixels[1])
    assert len(list((run / "images").rglob("*.png"))) == 3


def test_a_full_disk_is_one_sentence_and_leaves_no_copy(
    images: Subset, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, copied = export_images.shutil.copyfileobj, []

    def full(source: Any, target: Any, length: int) -> None:
        if copied:
            target.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(target.name)
        honest(source, target, length)

    monkeypatch.setattr(export_images.shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"images cannot be written \(No space left on device\)"):
        write(run, images)
    assert copied
    assert not list(run.iterdir())


def test_an_image_that_is_lost_meanwhile_is_named_and_leaves_no_copy(
    images: Subset, run: Path
) -> None:
    (run.parent / "3.jpg").unlink()
    with pytest.raises(UnreadableImageError, match=r"3\.jpg.*No such file"):
        write(run, images)
    assert not list(run.iterdir())


def test_copies_that_exist_already_are_kept(images: Subset, run: Path) -> None:
    (run / "images").mkdir()
    (run / "images/mine.jpg").touch()
    with pytest.raises(InputError, match="images exists already; remove it"):
        write(run, images)
    assert [path.name for path in run.rglob("*")] == ["images", "mine.jpg"]
