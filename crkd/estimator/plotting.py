"""Picture of the learned samples of an estimator on a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.projection_2d import on_a_plane
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.samples import LearnedSamples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS: Final = 20_000
"""Largest number of drawn samples; a larger set is thinned evenly."""
LONGEST_NAME: Final = 24
"""Largest number of characters of a name in the picture."""
MANY_CLASSES: Final = 20
"""With more classes, names are small."""
KNOWN_COLOR: Final = "0.72"


def draw_classes(space: ClassSpace, samples: LearnedSamples) -> Figure:
    """Return a picture of the samples, with the name of each class at the mean of its points.

    Known classes are gray, novel classes have colors, and outliers are crosses.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.4), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    classes = samples.classes(space)
    places = on_a_plane(samples.embedding, classes)
    _draw_points(axes, space, samples, classes, places)
    _draw_names(axes, space, classes, np.where(samples.outliers[:, None], np.nan, places))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, frameon=False)
    return figure


def _draw_points(
    axes: Axes,
    space: ClassSpace,
    samples: LearnedSamples,
    classes: NDArray[np.int64],
    places: NDArray[np.float32],
) -> None:
    count = len(classes)
    drawn = np.zeros(count, bool)
    drawn[np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64)] = True
    known, apart = classes < space.num_known, samples.outliers
    colors = _colors(len(space.mains) - space.num_known)
    area = float(np.clip(9000 / count, 4.0, 20.0))
    style: dict[str, Any] = {"s": area, "linewidths": 0, "alpha": 0.75}
    groups = (
        ("known classes", known & ~apart, lambda rows: KNOWN_COLOR, style),
        ("novel classes", ~known & ~apart, lambda rows: colors[rows - space.num_known], style),
        ("outliers", apart, lambda rows: "black", {"s": 24.0, "linewidths": 0.8, "marker": "x"}),
    )
    for name, group, color, look in groups:
        if group.any():
            rows = group & drawn
            label = f"{name}: {int(group.sum()):,} samples"
            x, y = places[rows].T
            axes.scatter(x, y, c=color(classes[rows]), label=label, **look)


def _draw_names(
    axes: Axes, space: ClassSpace, classes: NDArray[np.int64], places: NDArray[np.float32]
) -> None:
    """Write the name of each class at the mean of its places; outliers have the place NaN."""
    from matplotlib.patheffects import withStroke

    size = 9 if len(space.mains) <= MANY_CLASSES else 6
    outline = [withStroke(linewidth=2.5, foreground="white")]
    for position, name in enumerate(space.names):
        members = places[classes == position]
        members = members[~np.isnan(members[:, 0])]
        if len(members):
            known = position < space.num_known
            x, y = members.mean(axis=0)
            axes.text(
                x,
                y,
                _short(name),
                ha="center",
                va="center",
                fontsize=size,
                color="0.35" if known else "black",
                fontweight="normal" if known else "bold",
                path_effects=outline,
                parse_math=False,
            )


def _colors(count: int) -> NDArray[np.float64]:
    """Return a color for each novel class, ``(count, 4)``."""
    from matplotlib import colormaps

    if count <= 10:
        return np.asarray(colormaps["tab10"](np.arange(count)))
    return np.asarray(colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def _short(name: str) -> str:
    # A line break in a name would move it over other names.
    flat = " ".join(name.split())
    return flat if len(flat) <= LONGEST_NAME else flat[: LONGEST_NAME - 1] + "…"
