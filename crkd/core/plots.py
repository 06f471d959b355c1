"""Plots as PNG files, without pyplot, so that the caller's matplotlib backend stays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.core.atomic_write import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_plot(figure: Figure, path: Path, **options: Any) -> None:
    """Write a plot as a PNG file, which is either whole or absent.

    Args:
        figure: made by ``matplotlib.figure.Figure``, not by pyplot.
        path: the file; its folder is created if it is missing.
        **options: of ``Figure.savefig``, such as ``dpi``.

    Raises:
        InputError: the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", **options)
    write_bytes(path, picture.getvalue())
