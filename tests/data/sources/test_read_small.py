"""Images that may come smaller: JPEG files of every source that decodes them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crkd.data.datasets.features import FeatureSource
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource, UnreadableImageError
from crkd.data.sources.files import FileSource
from crkd.data.sources.parquet import ParquetSource
from crkd.data.sources.tar import TarSource
from crkd.data.sources.tar_members import tar_members
from crkd.data.vectors.embedded_source import EmbeddedSource
from crkd.inference.image_files import TolerantSource

Made = Callable[[Path, bytes], ImageSource]


def of_files(folder: Path, content: bytes) -> ImageSource:
    (folder / "x.jpg").write_bytes(content)
    return FileSource([folder / "x.jpg"], [0], ["a"], ["x.jpg"])


def tolerant(folder: Path, content: bytes) -> ImageSource:
    (folder / "x.jpg").write_bytes(content)
    return TolerantSource([folder / "x.jpg"])


def of_tar(folder: Path, content: bytes) -> ImageSource:
    with tarfile.open(folder / "x.tar", "w") as tar:
        entry = tarfile.TarInfo("a/x.jpg")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return TarSource(tar_members(folder / "x.tar"), [0], ["a"], ["x.jpg"])


def of_table(folder: Path, content: bytes) -> ImageSource:
    table = pa.table({"img": [{"bytes": content, "path": None}], "label": [0]})
    pq.write_table(table, folder / "x.parquet")
    return ParquetSource(
        [folder / "x.parquet"], image_column="img", label_column="label", class_names=["a"]
    )


def of_vectors(folder: Path, content: bytes) -> ImageSource:
    class Kept(EmbeddedSource):
        def encoded(self, index: int) -> bytes:
            return content

    return Kept(FeatureSource([0], ["a"], ["x.jpg"]), [])


SOURCES = [of_files, tolerant, of_tar, of_table, of_vectors]


def encoded(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (800, 640), (200, 60, 20)).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("made", SOURCES)
def test_a_jpeg_comes_as_small_as_its_sides_allow(made: Made, tmp_path: Path) -> None:
    source = made(tmp_path, encoded("JPEG"))
    assert source.read(0).shape == (640, 800, 3)
    shapes = [source.read_small(0, least).shape for least in (60, 80, 81, 160, 192, 320, 321, 900)]
    reduced = [(80, 100), (80, 100), (160, 200), (160, 200), (320, 400), (320, 400)]
    assert [shape[:2] for shape in shapes] == [*reduced, (640, 800), (640, 800)]
    # The color is that of the whole image, whose read is as before.
    assert np.abs(source.read_small(0, 60).mean((0, 1)) - source.read(0).mean((0, 1))).max() < 1


@pytest.mark.parametrize("made", SOURCES)
def test_other_formats_keep_their_size(made: Made, tmp_path: Path) -> None:
    source = made(tmp_path, encoded("PNG"))
    assert np.array_equal(source.read_small(0, 60), source.read(0))


def test_arrays_keep_their_size() -> None:
    source = ArraySource(np.zeros((1, 640, 800, 3), np.uint8), [0], ["a"])
    assert source.read_small(0, 60).shape == (640, 800, 3)


@pytest.mark.parametrize("made", [of_files, of_tar, of_table, of_vectors])
def test_a_truncated_jpeg_is_unreadable_at_any_size(made: Made, tmp_path: Path) -> None:
    source = made(tmp_path, encoded("JPEG")[:900])
    with pytest.raises(UnreadableImageError):
        source.read_small(0, 60)


def test_an_unreadable_image_is_black_where_all_are_predicted(tmp_path: Path) -> None:
    source = TolerantSource([tmp_path / "missing.jpg"])
    assert source.read_small(0, 60).tolist() == [[[0, 0, 0]]]
    assert source.unreadable == {0: "the file does not exist"}
