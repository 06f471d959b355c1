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

    Thumbnail n is in the file ``S.jpg`` with ``S = n // ACROSS**2``, row by row.

    Args:
        images: source of the images.
        rows: ``(n,)`` positions in ``images``.
        folder: existing, empty folder.

    Returns:
        Side of a thumbnail in pixels, and whether each image is readable, ``(n,)``.
    """
    count = ACROSS * ACROSS
    first = [
        pixels.shape[:2] for row in rows[:count] if (pixels := _pixels(images, row)) is not None
    ]
    # All sheets have the side of the first, so that the page needs one number.
    # A multiple of the blocks of JPEG, so that neighbors do not color each other.
    side = min(SIDE, -(-max(map(max, first), default=SIDE) // BLOCK_SIDE) * BLOCK_SIDE)

    def write(number: int) -> list[bool]:
        canvas = Image.new("RGB", (side * ACROSS, side * ACROSS))
        found = [_pixels(images, row) for row in rows[number * count : (number + 1) * count]]
        for place, pixels in enumerate(found):
            if pixels is not None:
                fit = ImageOps.fit(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS)
                canvas.paste(fit, (place % ACROSS * side, place // ACROSS * side))
        # JPEG takes an eighth of the time of WebP, in writing and in scrolling.
        canvas.save(folder / f"{number}.jpg", quality=82)
        return [pixels is not None for pixels in found]

    progress, readable = ImageProgress("review: thumbnails", len(rows)), np.zeros(len(rows), bool)
    done = 0
    for flags in parallel(write, range(-(-len(rows) // count))):
        readable[done : done + len(flags)] = flags
        done += len(flags)
        progress.show(done)
    progress.close()
    return side, readable


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
