"""Whitened spaces of a discovery on vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats, kmeans
from crkd.clustering.whitening import WhitenedSpace, principal_space, whitened_spaces
from crkd.core.threads import one_thread
from crkd.stages.vectors.arguments import checked_known, checked_rows
from crkd.stages.vectors.discovery_input import WIDTHS


def discovery_spaces(
    known: Floats,
    labels: NDArray[np.int64],
    novel: Floats,
    *,
    num_clusters: int | None = None,
    seed: int = 0,
) -> list[WhitenedSpace]:
    """Return the spaces of a discovery, one of each of :data:`.discovery_input.WIDTHS`.

    Args:
        known: ``(n, D)`` vectors of known classes; n is 0 if no class is known.
        labels: ``(n,)`` their classes in ``[0, K)``.
        novel: ``(m, D)`` unlabeled vectors.
        num_clusters: number of clusters of k-means whose scatter whitens the spaces if no class is
            known; None returns principal components that are not whitened.
        seed: of the clusters.
    """
    if len(known):
        return whitened_spaces(known, labels, novel, WIDTHS)
    if num_clusters is None:
        return [principal_space(novel, width=width, root=True) for width in WIDTHS]
    clusters = kmeans(principal_space(novel).rows(novel), num_clusters, seed=seed).assignment
    return whitened_spaces(novel, clusters, novel[:0], WIDTHS)


@one_thread()
def starting_spaces(
    known: Tensor, known_labels: Tensor, unlabeled: Tensor
) -> tuple[WhitenedSpace, WhitenedSpace]:
    """Return the spaces before a discovery: the one of the methods, and the wide one.

    Args:
        known: ``(n, D)`` finite vectors of known classes; n is 0 if no class is known.
        known_labels: ``(n,)`` int64 in ``[0, K)``, each class at least once.
        unlabeled: ``(m, D)`` further vectors, which shape the principal components; m may be 0 if
            a class is known.

    Raises:
        InputError: an argument is unusable.
    """
    rows, labels = checked_known(known, known_labels)
    others = rows[:0]
    if len(unlabeled) or not len(rows):
        others = checked_rows("unlabeled", unlabeled)
    space, wide = discovery_spaces(rows, labels, others)
    return space, wide
