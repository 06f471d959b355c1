"""Unlabeled training images whose novel class and joint prediction disagree, in a run's folder.

Where all unlabeled images are new, each has a novel class. The joint prediction would give some of
them a known class: these are disputed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.evaluation.calibration import probabilities
from crkd.runs.csv_cells import escape_formula, unescape_formula
from crkd.runs.folder import RunFolder

FILE: Final = "disputed.csv"
_COLUMNS: Final = ("image", "class_name", "probability", "known_class", "known_probability")


def disputed_classes(joint_logits: NDArray[np.floating[Any]], num_known: int) -> NDArray[np.int64]:
    """Return the known class of the joint prediction, ``(N,)``; -1 where it is a novel class.

    Args:
        joint_logits: ``(N, C)``, the K known classes first.
        num_known: K.

    >>> disputed_classes(np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), 2).tolist()
    [0, -1]
    """
    best = joint_logits.argmax(axis=1)
    found: NDArray[np.int64] = np.where(best < num_known, best, -1)
    return found


def write_disputed(
    run: RunFolder,
    ids: Sequence[str],
    joint_logits: NDArray[np.floating[Any]],
    names: Sequence[str],
    num_known: int,
) -> int:
    """Write ``disputed.csv``, the most certain known class first; return the number of images.

    Args:
        run: the folder.
        ids: N ids of the unlabeled training images.
        joint_logits: ``(N, C)``, the K known classes first.
        names: of the C classes.
        num_known: K, below C.
    """
    known = disputed_classes(joint_logits, num_known)
    rows = np.flatnonzero(known >= 0)
    shares = probabilities(joint_logits[rows])
    novel = num_known + joint_logits[rows, num_known:].argmax(axis=1)
    picked = np.arange(len(rows))
    first, second = shares[picked, known[rows]], shares[picked, novel]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for n in np.argsort(-first, kind="stable"):
        writer.writerow(
            (
                escape_formula(ids[rows[n]]),
                escape_formula(names[novel[n]]),
                f"{second[n]:.6f}",
                escape_formula(names[known[rows[n]]]),
                f"{first[n]:.6f}",
            )
        )
    write_bytes(run.path / FILE, text.getvalue().encode())
    return len(rows)


def read_probabilities(run: RunFolder) -> dict[str, float]:
    """Return the probability of the novel class of each disputed image, by image id.

    It is empty for a run without the file.

    Raises:
        InputError: the file is damaged.
    """
    path = run.path / FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            found = {unescape_formula(row["image"]): float(row["probability"]) for row in rows}
        if all(0 <= value <= 1 for value in found.values()):
            return found
        reason = "a probability is not in [0, 1]"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"{path} is damaged ({reason}); restore it, or remove it")
