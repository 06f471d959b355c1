"""Confusion matrix of the chosen head, and its picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.core.plots import save_plot
from crkd.evaluation.matching import contingency
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.protocols import apply_cluster_map
from crkd.evaluation.report import cluster_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Largest number of classes with numbers in the cells; with more, only the color is readable.
MAX_CLASSES_WITH_NUMBERS = 25
MAX_NAME_LENGTH = 20
MAX_UPRIGHT_LENGTH = 3
# Vermilion, which differs from the blue scale under every common color vision deficiency.
DIVIDER = "#d55e00"
# Thousands of classes would give a picture that no viewer opens; some names are left out instead.
MAX_INCHES = 35.0
MAX_LABELS = 200
COLOR_TICKS = (0, 1, 5, 10, 20, 40, 60, 80, 100)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of true against predicted classes.

    Attributes:
        counts: ``(R, P)`` int64 images of true class r predicted as p.
        true_names: R names, known ones first; only classes with a labeled image.
        predicted_names: P names: the R true ones in the same order, then the other predictions:
            classes without an image here, and novel clusters without a class.
        num_known: number of known classes in the true names.
    """

    counts: NDArray[np.int64]
    true_names: tuple[str, ...]
    predicted_names: tuple[str, ...]
    num_known: int


def confusion(predictions: Predictions, part: str) -> Confusion:
    """Count the predictions of the chosen head for the labeled images of ``part``.

    Novel outputs become classes through the map of the task-agnostic protocol, fitted on the
    novel training images. Without labels there, they remain clusters. For a run without novel
    heads, the known head is counted, on known classes only.

    Args:
        predictions: the table of one run.
        part: "train" or "test".

    Raises:
        InputError: no image of the part has a label, or there is no such part.
    """
    known, total = predictions.num_known, predictions.num_classes
    rows = predictions.of(part) & (predictions.label >= 0)
    head = predictions.chosen_head
    if head is None:
        rows &= predictions.label < known
    if not rows.any():
        raise InputError(
            f"no image of the part {part!r} has a label; a confusion matrix needs true classes"
        )
    truth = predictions.label[rows]
    names = list(predictions.class_names)
    if head is None:
        predicted = predictions.known_head[rows].astype(np.int64)
    else:
        outputs = predictions.joint_heads[head][rows]
        predicted = apply_cluster_map(outputs, cluster_map(predictions, head), num_known=known)
        # A cluster without a class gets its own column after all classes.
        unnamed = predicted < 0
        predicted[unnamed] = total + outputs[unnamed] - known
        names += [f"cluster {cluster}" for cluster in range(predictions.num_novel)]
    counts = contingency(predicted, truth, len(names), total).T
    present = np.flatnonzero(counts.sum(axis=1))
    others = np.setdiff1d(np.flatnonzero(counts.sum(axis=0)), present)
    order = np.concatenate([present, others])
    return Confusion(
        counts[np.ix_(present, order)],
        tuple(names[index] for index in present),
        tuple(names[index] for index in order),
        int(np.sum(present < known)),
    )


def draw_confusion(matrix: Confusion, path: str | Path) -> None:
    """Write ``matrix`` as a PNG picture.

    Color is the fraction of the true class. Up to 25 classes, the cells also show it in percent.
    A line divides known from novel classes.

    Args:
        matrix: result of :func:`confusion`.
        path: the file to write; its folder is created if it is missing.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    rows, columns = matrix.counts.shape
    percent = 100.0 * matrix.counts / matrix.counts.sum(axis=1, keepdims=True)
    cell = 0.5 if max(rows, columns) <= MAX_CLASSES_WITH_NUMBERS else 0.15
    figure = Figure(
        figsize=(
            np.clip(cell * columns + 3.2, 6.0, MAX_INCHES),
            np.clip(cell * rows + 2.4, 5.0, MAX_INCHES),
        ),
        layout="constrained",
    )
    axes = figure.add_subplot()
    # The square root makes rare confusions visible; a linear scale hides them.
    image = axes.imshow(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, aspect=30, ticks=COLOR_TICKS)
    bar.set_label("% of the true class")
    if max(rows, columns) <= MAX_CLASSES_WITH_NUMBERS:
        _write_numbers(axes, percent)
    _label_axes(axes, matrix)
    _divide(axes, matrix)
    # Without a position, the title is placed by the labels of all classes again and again.
    axes.set_title(_heading(matrix), pad=22, y=1.0)
    save_plot(figure, Path(path), dpi=150, bbox_inches="tight", pad_inches=0.05)


def _write_numbers(axes: Axes, percent: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(percent >= 0.5):
        value = percent[row, column]
        axes.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if value > 35 else "black",
        )


def _label_axes(axes: Axes, matrix: Confusion) -> None:
    rows, columns = matrix.counts.shape
    size = 10 if max(rows, columns) <= MAX_CLASSES_WITH_NUMBERS else 7
    style: dict[str, Any] = {"fontsize": size, "parse_math": False}
    step = -(-max(rows, columns) // MAX_LABELS)
    totals = matrix.counts.sum(axis=1)
    truths = [
        f"{_short(name)} ({total})" for name, total in zip(matrix.true_names, totals, strict=True)
    ]
    axes.set_yticks(range(0, rows, step), truths[::step], **style)
    guesses = [_short(name) for name in matrix.predicted_names]
    upright = max(map(len, guesses)) <= MAX_UPRIGHT_LENGTH and step == 1
    axes.set_xticks(
        range(0, columns, step), guesses[::step], rotation=0 if upright else 90, **style
    )
    axes.set_ylabel("true class (images)")
    axes.set_xlabel("predicted class")


def _divide(axes: Axes, matrix: Confusion) -> None:
    rows, columns = matrix.counts.shape
    if max(rows, columns) > MAX_CLASSES_WITH_NUMBERS:
        for position in range(10, max(rows, columns), 10):
            axes.axhline(position - 0.5, color="0.85", linewidth=0.5)
            axes.axvline(position - 0.5, color="0.85", linewidth=0.5)
    if 0 < matrix.num_known < rows:
        axes.axhline(matrix.num_known - 0.5, color=DIVIDER, linewidth=1.5)
        axes.axvline(matrix.num_known - 0.5, color=DIVIDER, linewidth=1.5)
    if columns > rows:
        axes.axvline(rows - 0.5, color="0.4", linewidth=1.0, linestyle="--")
    edges = (0, matrix.num_known, rows, columns)
    for name, start, stop in zip(("known", "novel", "other"), edges[:-1], edges[1:], strict=True):
        if stop > start:
            axes.annotate(
                name,
                ((start + stop - 1) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                color=DIVIDER if name == "novel" else "black",
            )


def _heading(matrix: Confusion) -> str:
    hits = matrix.counts.diagonal()
    totals = matrix.counts.sum(axis=1)
    groups = {"known": slice(0, matrix.num_known), "novel": slice(matrix.num_known, None)}
    shares = [
        f"{name} {100.0 * hits[rows].sum() / totals[rows].sum():.1f} %"
        for name, rows in groups.items()
        if totals[rows].sum()
    ]
    return "right: " + ", ".join(shares)


def _short(name: str) -> str:
    # A line break in a name would move the labels over the picture.
    flat = " ".join(name.split())
    return flat if len(flat) <= MAX_NAME_LENGTH else flat[: MAX_NAME_LENGTH - 1] + "…"
