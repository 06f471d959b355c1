"""Picture of the learned samples of an estimator on a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.projection_2d import project_2d
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.samples import LearnedSamples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colors = NDArray[np.float64]

MOST_POINTS: Final = 20_000
"""Largest number of drawn samples; a larger set is thinned evenly."""
LONGEST_NAME: Final = 24
"""Largest number of characters of a name in the picture."""
MOST_NAMES: Final = 20
"""Largest number of classes whose names are in the plane; there they would overlap."""
LEGEND_ROWS: Final = 34
KNOWN_COLOR: Final = (0.72, 0.72, 0.72, 1.0)
OUTLIER_COLOR: Final = (0.0, 0.0, 0.0, 1.0)


def draw_classes(space: ClassSpace, samples: LearnedSamples) -> Figure:
    """Return a picture of the samples on the plane of the class means.

    Known classes are gray, novel classes have colors, and outliers are crosses. The legend names
    the novel classes with their numbers of samples. Up to ``MOST_NAMES`` classes are also named at
    the mean of their points.
    """
    from matplotlib.figure import Figure

    classes, apart = samples.classes(space), samples.outliers(space)
    places = project_2d(samples.embedding, classes)
    colors = _colors(space)
    columns = -(-(len(colors) - space.num_known + 2) // LEGEND_ROWS)
    figure = Figure(figsize=(7.0 + 1.8 * columns, 6.4), layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    _draw_points(axes, places, np.where(apart[:, None], OUTLIER_COLOR, colors[classes]), apart)
    if len(colors) <= MOST_NAMES:
        _draw_names(axes, space, classes[~apart], places[~apart])
    _draw_legend(figure, space, classes, apart, columns)
    return figure


def _colors(space: ClassSpace) -> Colors:
    """Return the color of each class, ``(C, 4)``."""
    from matplotlib import colormaps

    count = len(space.mains) - space.num_known
    if count <= 10:
        novel = colormaps["tab10"](np.arange(count))
    else:
        novel = colormaps["turbo"](np.linspace(0.05, 0.95, count))
    return np.concatenate([np.tile(KNOWN_COLOR, (space.num_known, 1)), novel])


def _draw_points(
    axes: Axes, places: NDArray[np.float32], colors: Colors, apart: NDArray[np.bool_]
) -> None:
    """Draw the samples: points, and crosses for outliers."""
    count = len(places)
    drawn = np.zeros(count, bool)
    drawn[np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64)] = True
    area = float(np.clip(9000 / count, 4.0, 20.0))
    rows, crosses = drawn & ~apart, drawn & apart
    axes.scatter(places[rows, 0], places[rows, 1], c=colors[rows], s=area, linewidths=0, alpha=0.75)
    axes.scatter(
        places[crosses, 0], places[crosses, 1], c=colors[crosses], s=24, linewidths=0.8, marker="x"
    )


def _draw_names(
    axes: Axes, space: ClassSpace, classes: NDArray[np.int64], places: NDArray[np.float32]
) -> None:
    """Write the name of each class at the mean of its places."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2.5, foreground="white")]
    for position, name in enumerate(space.names):
        members = places[classes == position]
        if len(members):
            known = position < space.num_known
            x, y = members.mean(axis=0)
            axes.text(
                x,
                y,
                _short(name),
                ha="center",
                va="center",
                fontsize=9,
                color="0.35" if known else "black",
                fontweight="normal" if known else "bold",
                path_effects=outline,
                parse_math=False,
            )


def _draw_legend(
    figure: Figure,
    space: ClassSpace,
    classes: NDArray[np.int64],
    apart: NDArray[np.bool_],
    columns: int,
) -> None:
    """Draw a row for the known classes, one for each novel class and one for outliers."""
    from matplotlib.lines import Line2D

    names, colors = space.names, _colors(space)
    counts = np.bincount(classes[~apart], minlength=len(names)).tolist()
    rows = []
    if space.num_known:
        rows.append(("known classes", KNOWN_COLOR, "o", sum(counts[: space.num_known])))
    rows += [
        (_short(names[position]), tuple(colors[position]), "o", counts[position])
        for position in range(space.num_known, len(names))
    ]
    if apart.any():
        rows.append(("outliers", OUTLIER_COLOR, "x", int(apart.sum())))
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle="none")
        for _, color, marker, _ in rows
    ]
    legend = figure.legend(
        handles,
        [f"{name} ({count:,})" for name, _, _, count in rows],
        loc="outside right upper",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _short(name: str) -> str:
    # A line break in a name would move it over other names.
    flat = " ".join(name.split())
    return flat if len(flat) <= LONGEST_NAME else flat[: LONGEST_NAME - 1] + "…"
