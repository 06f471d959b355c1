"""Accuracy and forgetting over the steps of incremental discovery."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.core.plots import save_plot
from crkd.evaluation.matching import Ids


def group_accuracy(predicted: Ids, truth: Ids, sizes: Sequence[int]) -> list[float | None]:
    """Return the accuracy on the images of every class group.

    Args:
        predicted: ``(N,)`` class ids, -1 for a cluster without a class.
        truth: ``(N,)`` class ids; images of classes beyond the groups are left out.
        sizes: number of classes of each group, in id order, the labeled ones first.

    Returns:
        One accuracy in [0, 1] per group; None for a group without an image.

    >>> import numpy as np
    >>> group_accuracy(np.array([0, 1, 2, 0]), np.array([0, 1, 2, 2]), [2, 1])
    [1.0, 0.5]
    """
    bounds = np.cumsum([0, *sizes])
    found: list[float | None] = []
    for low, high in itertools.pairwise(bounds):
        members = (truth >= low) & (truth < high)
        right = predicted[members] == truth[members]
        found.append(float(right.mean()) if members.any() else None)
    return found


def step_entry(predicted: Ids, truth: Ids, sizes: Sequence[int]) -> dict[str, Any]:
    """Return the accuracy after one step on all, old and new classes, and on each group.

    The protocol is task-agnostic: the group of an image is not given. A cluster keeps the class to
    which it was matched on the training images of the step that found it (the rule of FRoST; Roy
    et al., ECCV 2022).

    Args:
        predicted: ``(N,)`` class ids of the test images, -1 for a cluster without a class.
        truth: ``(N,)`` class ids; images of classes that are not found yet are left out.
        sizes: number of classes of each group so far; the last group is new.

    Returns:
        ``{"acc": {"all", "old", "new"}, "groups": [...]}`` with values in [0, 1]; ``old`` is None
        for the first, supervised stage.
    """
    groups = group_accuracy(predicted, truth, sizes)
    old = group_accuracy(predicted, truth, [sum(sizes[:-1])])[0] if len(sizes) > 1 else None
    everything = group_accuracy(predicted, truth, [sum(sizes)])[0]
    return {"acc": {"all": everything, "old": old, "new": groups[-1]}, "groups": groups}


def forgetting(matrix: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the best earlier accuracy minus the last one, for each group except the last.

    Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, section 3.2. The value
    is negative if the accuracy of a group has increased.

    Args:
        matrix: accuracy of each step (row) on each group found by then (column).

    >>> [round(f, 2) for f in forgetting([[0.9], [0.8, 0.7], [0.6, 0.75, 0.5]])]
    [0.3, -0.05]
    """
    last = matrix[-1]
    lost: list[float | None] = []
    for group in range(len(last) - 1):
        earlier = [row[group] for row in matrix[:-1] if len(row) > group]
        known = [value for value in earlier if value is not None]
        now = last[group]
        lost.append(max(known) - now if known and now is not None else None)
    return lost


def parse_plan(plan: str) -> tuple[int, ...]:
    """Return the group sizes of a plan such as "80-10-10".

    Raises:
        InputError: it is not a list of at least two whole numbers above 0, joined by hyphens.

    >>> parse_plan("4-3-3")
    (4, 3, 3)
    """
    parts = plan.split("-")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise InputError(
            f"--plan is {plan!r}; write class counts such as 80-10-10, the known classes first"
        )
    return tuple(int(part) for part in parts)


def draw_steps(matrix: Sequence[Sequence[float | None]], path: Path) -> None:
    """Draw the accuracy of every group over the steps as a PNG file.

    Args:
        matrix: accuracy of each step (row) on each group found by then (column), in [0, 1].
        path: the file to write; its folder is created if it is missing.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    steps = len(matrix)
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for group in range(steps):
        line: NDArray[np.float64] = np.array(
            [matrix[step][group] for step in range(group, steps)], dtype=np.float64
        )
        name = "known from the start" if group == 0 else f"found in step {group}"
        axes.plot(range(group, steps), 100 * line, marker="o", label=name)
    axes.set_xticks(range(steps), ["stage 1", *(f"step {s}" for s in range(1, steps))])
    axes.set_ylabel("accuracy on test images (%)")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(title="classes", frameon=False)
    save_plot(figure, path, dpi=150)
