"""Thumbnails of photographs: decoded at a reduced size, and the same to the eye."""

from __future__ import annotations

import base64
import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from crkd.data.encoded import EncodedTable, table_pieces
from crkd.data.sources import files
from crkd.data.sources.base import ImageSource, Pixels, UnreadableImageError
from crkd.data.sources.decode import decode_image
from crkd.data.sources.files import FileSource
from crkd.data.splits.partition import Subset
from crkd.data.storage import workers
from crkd.review import thumbnails
from crkd.review.contact_sheet import IMAGES, strip
from crkd.review.contact_sheet import SIDE as SQUARE
from crkd.review.thumbnails import (
    ACROSS,
    SHEET,
    SIDE,
    data_uri,
    embedded_thumbnails,
    write_sheets,
)

WIDE, HIGH = 1600, 1200
DIFFERENCE, OF_WEBP = 2.0, 5.0
"""Mean difference of a thumbnail from that of the whole image, of 255.

WebP alone changes these pictures by 10, and a shift by one pixel by 9.
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Subset:
    """Two JPEG files with detail of every size, the second one turned by its metadata."""
    draw, paths = np.random.default_rng(0), []
    for turned in (False, True):
        picture = np.zeros((HIGH, WIDE, 3))
        for cells in (4, 16, 64, 400):
            noise = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            picture += np.asarray(Image.fromarray(noise).resize((WIDE, HIGH))) / 4
        exif = Image.Exif()
        if turned:
            exif[0x0112] = 6
        paths.append(tmp_path / f"{turned}.jpg")
        Image.fromarray(picture.astype(np.uint8)).save(paths[-1], quality=95, exif=exif)
    source = FileSource(paths, [-1, -1], [], ["0.jpg", "1.jpg"])
    return Subset(source, np.arange(2), source.labels, list(source.ids))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what the decoder returns."""
    shapes = []

    def noted(data: Path, where: str, *, at_least: int | None = None) -> Pixels:
        pixels = decode_image(data, where, at_least=at_least)
        shapes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(files, "decode_image", noted)
    return shapes


def whole(images: Subset, monkeypatch: pytest.MonkeyPatch) -> Subset:
    """Return the images at their full size."""
    monkeypatch.setattr(FileSource, "read_small", lambda self, index, _: self.read(index))
    return images


def opened(content: bytes | Path) -> np.ndarray:
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def test_embedded_thumbnails_are_made_from_reduced_images(
    photographs: Subset, decoded: list[tuple[int, ...]]
) -> None:
    uris = embedded_thumbnails(photographs, np.arange(2), 10**6)
    assert uris is not None
    assert sorted(decoded) == [(HIGH // 4, WIDE // 4), (WIDE // 4, HIGH // 4)]
    for row, uri in enumerate(uris):
        expected = data_uri(photographs.source.read(row))
        small, large = (opened(base64.b64decode(u.split(",")[1])) for u in (uri or "", expected))
        assert small.shape == large.shape == ((72, SIDE, 3) if row == 0 else (SIDE, 72, 3))
        assert np.abs(small - large).mean() < OF_WEBP


def test_sheets_are_made_from_reduced_images(
    photographs: Subset,
    decoded: list[tuple[int, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    side, readable = write_sheets(photographs, np.arange(2), tmp_path / "small")
    assert {min(shape) for shape in decoded} == {HIGH // 4}
    assert (side, readable.all()) == (SIDE, True)
    whole(photographs, monkeypatch)
    assert write_sheets(photographs, np.arange(2), tmp_path / "large")[0] == side
    small, large = (opened(tmp_path / name / "0.jpg") for name in ("small", "large"))
    assert small.shape == (SIDE * ACROSS, SIDE * ACROSS, 3)
    assert np.abs(small - large)[:SIDE, : 2 * SIDE].mean() < DIFFERENCE


def test_a_strip_is_made_from_reduced_images(
    photographs: Subset, decoded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = strip(photographs, np.arange(2)).astype(float)
    assert {min(shape) for shape in decoded} == {HIGH // 8}
    large = strip(whole(photographs, monkeypatch), np.arange(2))
    assert small.shape == (SQUARE, SQUARE * IMAGES, 3)
    assert np.abs(small - large)[:, : 2 * SQUARE].mean() < DIFFERENCE


class TableSource(ImageSource):
    """The images of a Parquet table, in the order of its rows."""

    def __init__(self, table: EncodedTable) -> None:
        super().__init__([-1] * len(table), [], [table.name(row) for row in range(len(table))])
        self._table = table

    def read(self, index: int) -> Pixels:
        return decode_image(self._table.read(index), self.ids[index])


SIDES, FIT = (40, 30), 48
"""Sides of the images, and that of their thumbnails."""
BYTES = 3 * (FIT * ACROSS) ** 2
"""Of the pixels of a sheet."""
GROUPS, ROWS = 20, 10
DAMAGED = {3, 57, 199}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """200 images of two forms in 20 groups of rows; three cannot be read."""
    draw, encoded = np.random.default_rng(0), []
    for row in range(GROUPS * ROWS):
        height, width = SIDES[:: (-1) ** row]
        content = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(content, "PNG")
        encoded.append({"bytes": b"x" if row in DAMAGED else content.getvalue(), "path": None})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": pa.array(encoded, kind)}), file, row_group_size=ROWS)
    return file


def images_of(table: Path) -> Subset:
    source = TableSource(EncodedTable(table))
    return Subset(source, np.arange(len(source)), source.labels, list(source.ids))


def drawn(images: Subset, rows: np.ndarray, side: int) -> Iterator[Image.Image]:
    """Yield the sheets one by one, whose images are read in the order of the page."""
    for start in range(0, len(rows), SHEET):
        sheet = Image.new("RGB", (side * ACROSS, side * ACROSS))
        for place, row in enumerate(rows[start : start + SHEET]):
            try:
                picture = Image.fromarray(images.source.read(int(images.indices[row])))
            except UnreadableImageError:
                continue
            fit = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
            sheet.paste(fit, (place % ACROSS * side, place // ACROSS * side))
        yield sheet


@pytest.mark.parametrize("together", [1, 2, 100])
def test_sheets_are_those_that_are_drawn_one_by_one(
    table: Path, together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "SHEETS_BYTES", together * BYTES)
    images, folder = images_of(table), tmp_path / "sheets"
    rows = np.random.default_rng(1).permutation(len(images))
    folder.mkdir()
    side, readable = write_sheets(images, rows, folder)
    assert side == FIT
    assert set(rows[~readable].tolist()) == DAMAGED
    expected = list(drawn(images, rows, side))
    assert {file.name for file in folder.iterdir()} == {f"{n}.jpg" for n in range(len(expected))}
    for number, sheet in enumerate(expected):
        content = io.BytesIO()
        sheet.save(content, "JPEG", quality=82)
        assert (folder / f"{number}.jpg").read_bytes() == content.getvalue()


@pytest.mark.parametrize("together", [2, 100])
def test_each_group_of_a_table_is_decoded_once_for_the_sheets_made_together(
    table: Path, together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images of the first sheet are read twice: at first for the side of all thumbnails."""
    groups: list[int] = []
    pieces = pq.ParquetFile.iter_batches

    def noted(*arguments: Any, **options: Any) -> Iterator[Any]:
        groups.extend(options["row_groups"])
        return pieces(*arguments, **options)

    gc.collect()
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    # One group is kept, as of a table that is far larger than the memory.
    monkeypatch.setattr(table_pieces, "KEPT_BYTES", 1)
    monkeypatch.setattr(table_pieces, "free_host_bytes", lambda: 0)
    monkeypatch.setattr(workers, "threads_of_a_process", lambda: 1)
    monkeypatch.setattr(thumbnails, "SHEETS_BYTES", together * BYTES)
    images = images_of(table)
    rows = np.random.default_rng(1).permutation(len(images))
    for _ in drawn(images, rows, FIT):
        pass
    of_images = rows // ROWS
    assert len(groups) == 1 + np.count_nonzero(np.diff(of_images)) == 189
    groups.clear()
    (tmp_path / "sheets").mkdir()
    write_sheets(images, rows, tmp_path / "sheets")
    parts = [
        of_images[start : start + together * SHEET] for start in range(0, 200, together * SHEET)
    ]
    distinct = [len(set(part.tolist())) for part in (of_images[:SHEET], *parts)]
    assert len(groups) == sum(distinct) == {2: 76, 100: 37}[together]
