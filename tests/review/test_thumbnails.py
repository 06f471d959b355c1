"""Thumbnails of photographs: decoded at a reduced size, and the same to the eye."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.data.sources import files
from crkd.data.sources.base import Pixels
from crkd.data.sources.decode import decode_image
from crkd.data.sources.files import FileSource
from crkd.data.splits.partition import Subset
from crkd.review.contact_sheet import IMAGES, strip
from crkd.review.contact_sheet import SIDE as SQUARE
from crkd.review.thumbnails import ACROSS, SIDE, data_uri, embedded_thumbnails, write_sheets

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
