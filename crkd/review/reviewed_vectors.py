"""A reviewed discovery on feature vectors: heads and gate learned from decided classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.review.outcome import Outcome
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.discovery import VectorDiscovery, relabeled
from crkd.stages.vectors.sampling import reviewed_sample


def reviewed_discovery(
    found: VectorDiscovery, data: VectorData, images: Subset, outcome: Outcome, num_known: int
) -> VectorDiscovery:
    """Return the discovery with the classes of a review.

    It learns from the known vectors of the discovery, and from the images of a class: all of them,
    or a sample of very many that keeps all images whose class a person chose.

    Args:
        found: the reviewed discovery.
        data: vectors of its run.
        images: the unlabeled images.
        outcome: of the review.
        num_known: K.

    Raises:
        InputError: no class is left, or the vectors do not fit into the memory.
    """
    if not outcome.names:
        raise InputError("FILE leaves no image in any discovered class; keep some")
    by_person = np.array([image in outcome.by_person for image in images.ids], np.bool_)
    count, seed = len(outcome.names), data.config.seed
    rows = reviewed_sample(outcome.labels, by_person, count, seed=seed)
    vectors, labels = data.of(images.at(rows)), outcome.labels[rows]
    known = labels < num_known
    return relabeled(
        found,
        vectors,
        np.where(known, -1, labels - num_known),
        count,
        _labeled_vectors(data),
        (vectors[np.flatnonzero(known)], labels[known]),
    )


def _labeled_vectors(data: VectorData) -> tuple[Tensor, NDArray[np.int64]] | None:
    known = data.fitted_known
    return (data.of(known), known.labels) if len(known) else None
