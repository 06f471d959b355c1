"""Contact sheet: typical images of the discovered classes, and the most similar known classes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from crkd.data.sources.base import UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.run_outputs import Evidence, gather
from crkd.runs.atomic_files import write_bytes

IMAGES: Final = 10
"""Number of images per class, the most typical ones."""
SIDE: Final = 64
"""Side of an image in the picture, in pixels."""
NAMED: Final = 2
"""Number of similar known classes per class."""
LONGEST: Final = 20
"""Number of classes per column; more classes use further columns."""


def draw_sheet(path: str | Path, out: Path, *, device: torch.device) -> int:
    """Draw the discovered classes of a run, one row each.

    Args:
        path: the run folder of a finished discovery on images.
        out: the PNG file.
        device: device of the network.

    Returns:
        The number of drawn classes.

    Raises:
        InputError: the run has no novel classes or no images, or the images are not found.
    """
    evidence = gather(path, device)
    found = found_classes(evidence)
    write_bytes(out, _png(evidence, found))
    return len(found)


def strip(images: Subset, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images in a row, each a square of ``SIDE`` pixels on white.

    Args:
        images: source of the images.
        rows: up to ``IMAGES`` positions in ``images``; unreadable images stay white.
    """
    canvas = Image.new("RGB", (SIDE * IMAGES, SIDE), "white")
    for place, row in enumerate(rows[:IMAGES].tolist()):
        try:
            picture = Image.fromarray(images.source.read(int(images.indices[row])))
        except UnreadableImageError:
            continue
        # Small images are enlarged without smoothing; photographs are smoothed.
        small = max(picture.size) < SIDE
        factor = SIDE / max(picture.size)
        size = tuple(max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize(
            (size[0], size[1]), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        )
        canvas.paste(picture, (place * SIDE + (SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(canvas)


def caption(entry: FoundClass, names: list[str]) -> tuple[str, str]:
    """Return a class's name with its size, and the most similar known classes.

    Args:
        entry: the class.
        names: names of all classes by id.
    """
    count = len(entry.members)
    size = f"{count:,} image{'' if count == 1 else 's'}"
    near = ", ".join(f"{names[known]} {share:.0%}" for known, share in entry.resembles[:NAMED])
    return f"{names[entry.id]}: {size}", f"like {near}" if near else ""


def _png(evidence: Evidence, found: list[FoundClass]) -> bytes:
    texts = [caption(entry, evidence.names) for entry in found]
    captions = [([title], [near]) for title, near in texts]
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
    figure = Figure(figsize=(9.0 * columns, 0.72 * height + 0.1), dpi=100)
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.99}
    grid = figure.add_gridspec(height, columns, wspace=0.04, hspace=0.08, **edges)
    for number, ((title, near), images) in enumerate(zip(captions, strips, strict=True)):
        axis = figure.add_subplot(grid[number % height, number // height])
        axis.set_axis_off()
        axis.imshow(images, extent=(2.6, 2.6 + IMAGES, 0, 1), aspect="auto")
        axis.set_xlim(0, 2.6 + IMAGES)
        # A name may contain a dollar sign, which would start a formula.
        shown: dict[str, Any] = {"fontsize": 9, "parse_math": False, "clip_on": True}
        axis.text(0, 0.62, "\n".join(title), va="center", weight="bold", **shown)
        axis.text(0, 0.28, "\n".join(near), va="center", color="0.35", **shown)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
