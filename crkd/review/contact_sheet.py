"""Contact sheet: typical images of the discovered classes, and the most similar known classes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crkd.core.atomic_write import write_bytes
from crkd.core.counted import counted
from crkd.data.sources.base import UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.run_outputs import Evidence
from crkd.review.wrapped_text import FONT_SIZE, fitted

IMAGES: Final = 10
"""Number of images per class, the most typical ones."""
SIDE: Final = 64
"""Side of an image in the picture, in pixels."""
NAMED: Final = 2
"""Number of similar known classes per class."""
LONGEST: Final = 20
"""Number of classes per column; more classes use further columns."""
COLUMN_INCHES: Final = 9.0
CAPTION_SHARE: Final = 2.6
"""Width of the captions, in widths of an image."""
CAPTION_WIDTH: Final = 72 * COLUMN_INCHES * 0.94 * CAPTION_SHARE / (CAPTION_SHARE + IMAGES)
"""In points; a little of the width is left between captions and images."""
LINE_HEIGHT: Final = 0.23
"""Of the text, in heights of a row."""


def write_picture(evidence: Evidence, out: Path) -> None:
    """Draw the discovered classes of a run, one row each.

    Args:
        evidence: outputs of the run, which has images.
        out: the PNG file.

    Raises:
        InputError: the file cannot be written.
    """
    write_bytes(out, _png(evidence, found_classes(evidence)))


def strip(images: Subset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images in a row, each a square of ``SIDE`` pixels on white.

    Args:
        images: source of the images.
        rows: up to ``IMAGES`` positions in ``images``; unreadable images stay white.
    """
    canvas = Image.new("RGB", (SIDE * IMAGES, SIDE), "white")
    for place, row in enumerate(rows[:IMAGES].tolist()):
        try:
            # A JPEG of twice the size has all that the scaling can keep.
            pixels = images.source.read_small(int(images.indices[row]), 2 * SIDE)
        except UnreadableImageError:
            continue
        picture = Image.fromarray(pixels)
        # Small images are enlarged without smoothing; photographs are smoothed.
        small = max(picture.size) < SIDE
        factor = SIDE / max(picture.size)
        size = tuple(max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize(
            (size[0], size[1]), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        )
        canvas.paste(picture, (place * SIDE + (SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(canvas)


def caption(entry: FoundClass, names: Sequence[str] | Mapping[int, str]) -> tuple[str, str]:
    """Return a class's name with its size, and the most similar known classes.

    Args:
        entry: the class.
        names: names of all classes by id, or at least of these.
    """
    size = counted(len(entry.members), "image")
    near = ", ".join(f"{names[known]} {share:.0%}" for known, share in entry.resembles[:NAMED])
    return f"{names[entry.id]}: {size}", f"like {near}" if near else ""


def caption_lines(entry: FoundClass, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the caption as up to two lines each that fit next to the images; long names are cut.

    Args:
        entry: the class.
        names: names of all classes by id.
    """
    used = [entry.id, *(known for known, _ in entry.resembles[:NAMED])]
    longest = max(len(names[each]) for each in used)

    def part(number: int, cut: Callable[[str], str]) -> str:
        return caption(entry, {each: cut(names[each]) for each in used})[number]

    title, near = (
        fitted(partial(part, number), CAPTION_WIDTH, 2, longest=longest, bold=number == 0)
        for number in range(2)
    )
    return title, near


def _png(evidence: Evidence, found: list[FoundClass]) -> bytes:
    captions = [caption_lines(entry, evidence.names) for entry in found]
    return sheet(captions, [strip(evidence.images, entry.members) for entry in found])


def sheet(
    captions: Sequence[tuple[list[str], list[str]]], strips: Sequence[NDArray[np.uint8]]
) -> bytes:
    """Return a PNG file with a row for each group of images.

    Args:
        captions: the lines of a title and of a second text for each group.
        strips: images of each group, as :func:`strip` returns them.
    """
    from matplotlib.figure import Figure

    columns = max(1, -(-len(strips) // LONGEST))
    height = max(-(-len(strips) // columns), 1)
    figure = Figure(figsize=(COLUMN_INCHES * columns, 0.72 * height + 0.1), dpi=100)
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.99}
    grid = figure.add_gridspec(height, columns, wspace=0.04, hspace=0.08, **edges)
    for number, ((title, near), images) in enumerate(zip(captions, strips, strict=True)):
        axis = figure.add_subplot(grid[number % height, number // height])
        axis.set_axis_off()
        axis.imshow(images, extent=(CAPTION_SHARE, CAPTION_SHARE + IMAGES, 0, 1), aspect="auto")
        axis.set_xlim(0, CAPTION_SHARE + IMAGES)
        # A name may contain a dollar sign, which would start a formula.
        shown: dict[str, Any] = {"fontsize": FONT_SIZE, "parse_math": False, "va": "top"}
        top = 0.5 + LINE_HEIGHT * (len(title) + len(near)) / 2
        axis.text(0, top, "\n".join(title), weight="bold", **shown)
        axis.text(0, top - LINE_HEIGHT * len(title), "\n".join(near), color="0.35", **shown)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
