"""Scores of one group of images: acc, macro_acc, nmi and ari."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crkd.core.errors import InputError
from crkd.evaluation.agreement import agreement
from crkd.evaluation.matching import Ids, as_ids

MEASURES = ("acc", "macro_acc", "nmi", "ari")
Score = dict[str, float | int | None]


def score(
    predicted_class: ArrayLike,
    truth: ArrayLike,
    classes: Iterable[int],
    *,
    clusters: ArrayLike | None = None,
) -> Score:
    """Score the images whose true class is one of ``classes``.

    Args:
        predicted_class: ``(N,)`` class ids, -1 for a cluster without a class.
        truth: ``(N,)`` class ids, -1 if unknown; such images are left out.
        classes: the class ids of the group.
        clusters: ``(N,)`` output ids before the map to classes; nmi and ari are computed from
            them, so that they do not depend on the map. Default: ``predicted_class``.

    Returns:
        ``acc`` (accuracy), ``macro_acc`` (mean accuracy over the classes present), ``nmi``
        (arithmetic mean normalization), all in [0, 1]; ``ari``, at most 1, about 0 for chance and
        slightly negative below it; ``num_images``. Every score is None if the group has no image.

    Raises:
        InputError: lengths differ or an array does not hold integers.

    >>> result = score([0, 0, 1, 1], [0, 0, 0, 1], classes=[0, 1])
    >>> result["acc"], round(result["macro_acc"], 3), result["num_images"]
    (0.75, 0.833, 4)
    >>> score([0], [-1], classes=[0])["acc"] is None
    True
    """
    guess, true = as_ids(predicted_class, "predicted_class"), as_ids(truth, "truth")
    raw = guess if clusters is None else as_ids(clusters, "clusters")
    if not len(guess) == len(true) == len(raw):
        raise InputError(
            f"predicted_class, truth and clusters have {len(guess)}, {len(true)} and {len(raw)} "
            "entries; give one of each an image"
        )
    group = np.isin(true, np.fromiter(classes, dtype=np.int64)) & (true >= 0)
    guess, true, raw = guess[group], true[group], raw[group]
    if not len(true):
        return {**dict.fromkeys(MEASURES), "num_images": 0}
    per_class = class_accuracy(guess, true, int(true.max()) + 1)
    nmi, ari = agreement(true, raw)
    return {
        "acc": float(np.mean(guess == true)),
        "macro_acc": float(np.nanmean(per_class)),
        "nmi": nmi,
        "ari": ari,
        "num_images": len(true),
    }


def class_accuracy(predicted_class: Ids, truth: Ids, num_classes: int) -> NDArray[np.float64]:
    """Return the accuracy of every class.

    Args:
        predicted_class: ``(N,)`` class ids, -1 for none.
        truth: ``(N,)`` class ids below ``num_classes``; negative ones are left out.
        num_classes: length of the result.

    Returns:
        ``(num_classes,)`` in [0, 1], NaN for a class without an image.

    >>> class_accuracy(np.array([0, 1, -1]), np.array([0, 0, 2]), 3)
    array([0.5, nan, 0. ])
    """
    known = truth >= 0
    right = (predicted_class == truth)[known].astype(np.float64)
    images = np.bincount(truth[known], minlength=num_classes)
    hits = np.bincount(truth[known], weights=right, minlength=num_classes)
    shares = np.full(num_classes, np.nan)
    np.divide(hits, images, out=shares, where=images > 0)
    return shares
