"""Thumbnails of images: inside the review page, or as sheets in a folder of the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crkd.data.sources.base import Pixels, UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.data.storage.workers import parallel
from crkd.embedding.progress import ImageProgress

SIDE: Final = 96
"""Longest side of a thumbnail in pixels; smaller images keep their size."""
AT_LEAST: Final = 2 * SIDE
"""Pixels that both sides of an image keep: those of twice the size have all that scaling keeps."""
LOSSLESS: Final = 32
"""Side up to which thumbnails are lossless WebP, which is then about as small. Its method 1 gives
files of the same size as method 4, in a fifth of the time."""
BLOCK: Final = 256
BLOCK_SIDE: Final = 16
"""Side of the blocks of a JPEG file in pixels."""
ACROSS: Final = 6
"""Thumbnails in a row of a sheet, and rows. A browser decodes whole sheets: larger ones use more
memory where few thumbnails of many sheets are shown, as in a search."""
SHEET: Final = ACROSS * ACROSS
THREAD_IMAGES: Final = 8
"""Images that a thread takes at once. A small one is drawn as fast as it is handed over."""
SHEETS_BYTES: Final = 64 << 20
"""Memory for the sheets whose thumbnails are made together: 2,412 of the largest ones."""


def embedded_thumbnails(
    images: Subset, rows: NDArray[np.int64], budget: int
) -> list[str | None] | None:
    """Return the data URIs of images; None if they are longer than the budget.

    Args:
        images: source of the images.
        rows: ``(n,)`` positions in ``images``.
        budget: maximum number of characters of all URIs together.

    Returns:
        One URI for each row; an unreadable image has None.
    """
    made: list[str | None] = []

    def uri(row: np.int64) -> str | None:
        pixels = _pixels(images, row)
        return None if pixels is None else data_uri(pixels)

    for start in range(0, len(rows), BLOCK):
        made += parallel(uri, rows[start : start + BLOCK])
        if sum(len(found or "") for found in made[start:]) > budget:
            return None
        budget -= sum(len(found or "") for found in made[start:])
    return made


def write_sheets(
    images: Subset, rows: NDArray[np.int64], folder: Path
) -> tuple[int, NDArray[np.bool_]]:
    """Write square thumbnails, several in a file, in the order of the rows.

    Thumbnail n is in the file ``S.jpg`` with ``S = n // ACROSS**2``, row by row. Those of many
    sheets are made together, in the order of the images in the source.

    Args:
        images: source of the images.
        rows: ``(n,)`` positions in ``images``.
        folder: existing, empty folder.

    Returns:
        Side of a thumbnail in pixels, and whether each image is readable, ``(n,)``.
    """
    some = np.sort(rows[:SHEET])
    first = [pixels.shape[:2] for row in some if (pixels := _pixels(images, row)) is not None]
    # All sheets have the side of the first, so that the page needs one number.
    # A multiple of the blocks of JPEG, so that neighbors do not color each other.
    side = min(SIDE, -(-max(map(max, first), default=SIDE) // BLOCK_SIDE) * BLOCK_SIDE)
    at_once = max(1, min(SHEETS_BYTES // (3 * side * side * SHEET), -(-len(rows) // SHEET)))
    sheets = np.zeros((at_once, ACROSS * side, ACROSS * side, 3), np.uint8)
    progress, readable = ImageProgress("review: thumbnails", len(rows)), np.zeros(len(rows), bool)

    def draw(numbers: NDArray[np.int64]) -> int:
        for number in numbers.tolist():
            pixels = _pixels(images, rows[number])
            if pixels is not None:
                fit = ImageOps.fit(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS)
                top, left = number % SHEET // ACROSS * side, number % ACROSS * side
                square = sheets[number // SHEET % at_once, top : top + side, left : left + side]
                square[:] = np.asarray(fit)
                readable[number] = True
        return len(numbers)

    def save(number: int) -> None:
        # JPEG takes an eighth of the time of WebP, in writing and in scrolling.
        Image.fromarray(sheets[number % at_once]).save(folder / f"{number}.jpg", quality=82)

    done = 0
    for start in range(0, len(rows), at_once * SHEET):
        sheets[:] = 0
        places = source_order(images, rows[start : start + at_once * SHEET])
        blocks = np.split(start + places, range(THREAD_IMAGES, len(places), THREAD_IMAGES))
        for count in parallel(draw, blocks):
            done += count
            progress.show(done)
        for _ in parallel(save, range(start // SHEET, -(-done // SHEET))):
            pass
    progress.close()
    return side, readable


def source_order(images: Subset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places in ``rows`` by the order of their images in the source.

    So a Parquet file is decoded once, each group of its rows from its first row on.
    """
    return np.argsort(images.indices[rows], kind="stable")


def _pixels(images: Subset, row: np.int64) -> Pixels | None:
    """Return the pixels of an image, a large JPEG reduced; None if it is unreadable."""
    try:
        return images.source.read_small(int(images.indices[row]), AT_LEAST)
    except UnreadableImageError:
        return None


def data_uri(pixels: Pixels) -> str:
    """Return ``(H, W, 3)`` uint8 pixels as a ``data:`` URI of a small WebP image."""
    image = Image.fromarray(pixels)
    small = max(image.size) <= LOSSLESS
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=small, quality=75, method=1 if small else 4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
