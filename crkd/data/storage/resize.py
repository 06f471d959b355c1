"""Resizing of images to squares of one size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from crkd.data.sources.base import Pixels
from crkd.data.splits.partition import Subset


def fit_square(image: Pixels, size: int, interpolation: str = "bicubic") -> Pixels:
    """Scale the shorter side to ``size`` and cut out the middle.

    With antialiasing (Pillow). Only the middle is scaled: a picture of 1 x 60,000 pixels
    must not become one of 224 x 13 million on the way.

    Args:
        image: ``(H, W, 3)`` uint8.
        size: side of the result in pixels.
        interpolation: "bicubic", "bilinear", "lanczos" or "nearest".

    Returns:
        ``(3, size, size)`` uint8; an image of that size keeps its values.
    """
    height, width, _ = image.shape
    if height == width == size:
        return image.transpose(2, 0, 1)
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    scaled = Image.fromarray(image).resize(
        (size, size),
        Image.Resampling[interpolation.upper()],
        box=(left, top, left + side, top + side),
    )
    return np.asarray(scaled).transpose(2, 0, 1)


def read_squares(part: Subset, rows: npt.NDArray[np.int64], size: int) -> Pixels:
    """Decode the images at some positions of a subset.

    Args:
        part: the images.
        rows: ``(b,)`` positions in the subset.
        size: side of the results in pixels.

    Returns:
        ``(b, 3, size, size)`` uint8.

    Raises:
        UnreadableImageError: an image cannot be decoded.
    """
    squares = np.empty((len(rows), 3, size, size), dtype=np.uint8)
    for square, row in zip(squares, rows, strict=True):
        square[:] = fit_square(part.source.read(int(part.indices[row])), size)
    return squares
