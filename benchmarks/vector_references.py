"""References for discovery on vectors: other clusterings, and classifiers with true labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vector_files import Arrays
from crkd.clustering.kmeans import Floats
from crkd.clustering.logistic import logistic_regression
from crkd.clustering.tied_gaussians import TiedGaussians
from crkd.evaluation.matching import contingency, match
from crkd.stages.vectors.candidates import CANDIDATES
from crkd.stages.vectors.discovery import VectorDiscovery
from crkd.stages.vectors.discovery_input import DiscoveryInput
from crkd.stages.vectors.gate import NEW_LOSS, OLD_LOSS

MOST_SPECTRAL = 6_000
"""Rows of spectral clustering; its time grows with the square."""


def matched(clusters: NDArray[np.int64], truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the class that each cluster is matched to."""
    return match(contingency(clusters, truth, count, count))


def right(
    clusters: NDArray[np.int64], truth: NDArray[np.int64], class_of: NDArray[np.int64]
) -> float:
    """Return the percent of rows whose cluster is matched to their class."""
    return round(100 * float((class_of[clusters] == truth).mean()), 2)


def references(found: VectorDiscovery, novel: Arrays, count: int, seed: int) -> dict[str, float]:
    """Return k-means, whitened k-means, spectral clustering, and discriminant analysis.

    The last one is fitted with the true labels: the ceiling of linear classes in this space.
    """
    inputs = DiscoveryInput(novel[0], count, found.space, found.gate.space, seed)
    measures = {}
    for name in ("kmeans", "whitened_kmeans"):
        clusters = CANDIDATES[name](inputs, seed).logits(novel[0]).argmax(axis=1)
        measures[name] = right(clusters, novel[1], matched(clusters, novel[1], count))
    if len(novel[0]) <= MOST_SPECTRAL:
        clusters = _spectral(inputs.plain.values, count, seed)
        measures["spectral"] = right(clusters, novel[1], matched(clusters, novel[1], count))
    inside = found.space.rows(novel[0])
    weights, biases = TiedGaussians.fit(inside, novel[1], count).classifier()
    predicted = (inside @ weights + biases).argmax(axis=1)
    return {**measures, "ceiling": right(predicted, novel[1], np.arange(count))}


def joint_ceiling(
    found: VectorDiscovery, known: Arrays, novel: Arrays, held_out: list[Arrays]
) -> dict[str, float]:
    """Return what the joint prediction loses even with all true labels.

    One logistic regression of all classes separates old from new ones, with the offset that is best
    on the held-out vectors. Within a group the head of that group decides. So these losses are
    those of linear classes in the space, not of discovery.

    Args:
        found: the discovery; its space is taken.
        known: training vectors of the known classes.
        novel: of the novel classes, with their true labels.
        held_out: the same two, unseen.
    """
    space, first = found.gate.space, found.num_known
    count = int(novel[1].max()) + 1
    old, new = space.rows(known[0]), space.rows(novel[0])
    weights, biases = logistic_regression(
        np.concatenate([old, new]), np.concatenate([known[1], first + novel[1]]), first + count
    )
    margins, correct = [], []
    for (vectors, truth), (rows, labels, size) in zip(
        held_out, ((old, known[1], first), (new, novel[1], count)), strict=True
    ):
        inside = space.rows(vectors)
        margins.append(_margins(inside @ weights + biases, first))
        alone = logistic_regression(rows, labels, size)
        correct.append((inside @ alone[0] + alone[1]).argmax(axis=1) == truth)
    tries = np.sort(np.concatenate(margins))
    old_lost = _lost(margins[0], correct[0], tries)
    new_lost = correct[1].mean() - _lost(margins[1], correct[1], tries)
    best = int(np.maximum(old_lost / OLD_LOSS, new_lost / NEW_LOSS).argmin())
    return {
        "ceiling_known_lost": round(100 * float(old_lost[best]), 2),
        "ceiling_novel_lost": round(100 * float(new_lost[best]), 2),
    }


def _margins(scores: Floats, first: int) -> NDArray[np.float64]:
    return np.asarray(scores[:, :first].max(axis=1) - scores[:, first:].max(axis=1), np.float64)


def _lost(
    margins: NDArray[np.float64], correct: NDArray[np.bool_], tries: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return for each offset the share of rows that are correct and have a smaller margin."""
    order = np.sort(margins[correct])
    return np.asarray(np.searchsorted(order, tries) / len(margins))


def _spectral(rows: Floats, count: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import SpectralClustering

    model: Any = SpectralClustering(
        count, affinity="nearest_neighbors", n_neighbors=20, random_state=seed
    )
    clusters: NDArray[np.int64] = model.fit_predict(rows).astype(np.int64)
    return clusters
