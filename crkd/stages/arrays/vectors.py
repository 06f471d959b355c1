"""Feature vectors in both stages: their views and their number of epochs."""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.neighbors import nearest_neighbors, neighbors_within
from crkd.config.schema import Config
from crkd.data.vectors.views import FeatureStore, FeatureViews, VectorRecipe
from crkd.data.views import Views
from crkd.stages.arrays.training import Material


def material_of_vectors(
    labeled: Tensor, labels: NDArray[np.int64], unlabeled: Tensor | None, config: Config
) -> Material:
    """Return feature vectors ready for training, with the neighbors of each.

    Args:
        labeled: ``(n, D)`` float32 on the device.
        labels: ``(n,)`` class ids in ``[0, K)``.
        unlabeled: ``(m, D)`` float32 on the device, or None.
        config: its block ``features`` says how views are made.
    """
    settings, seed = config.features, config.seed
    vectors = labeled if unlabeled is None else torch.cat([labeled, unlabeled])
    count = len(labeled)
    host = vectors.cpu().numpy()
    neighbors = neighbors_within(host[:count], labels, settings.neighbors, seed=seed)
    if unlabeled is not None:
        found = nearest_neighbors(host[count:], settings.neighbors, seed=seed)
        neighbors = np.concatenate([neighbors, found + count])
    table = torch.from_numpy(neighbors).to(vectors.device)
    recipe = VectorRecipe(settings.mix, settings.noise, settings.dropout)

    def views(number: int) -> Views:
        # A loader asks of its views what these offer, and does not look at what they show.
        return cast(Views, FeatureViews(vectors, table, recipe, number))

    return Material(
        FeatureStore(vectors[:count]),
        labels,
        None if unlabeled is None else FeatureStore(vectors[count:]),
        views(config.pretrain.num_views),
        views(config.discover.num_large),
        vectors,
    )


def lengthened(config: Config, num_labeled: int, num_unlabeled: int) -> Config:
    """Return the configuration with as many epochs as ``features.min_steps`` asks for.

    Applied twice it changes nothing more, so a resumed run finds its own configuration.

    Args:
        config: of discovery on features.
        num_labeled: vectors of known classes.
        num_unlabeled: vectors of novel classes.
    """

    def epochs(given: int, size: int, batch_size: int, least: float) -> int:
        per_epoch = max(1, round(size / min(size, batch_size)))
        return max(given, math.ceil(least / per_epoch))

    first, second, least = config.pretrain, config.discover, config.features.min_steps
    total = num_labeled + num_unlabeled
    return dataclasses.replace(
        config,
        pretrain=dataclasses.replace(
            first, epochs=epochs(first.epochs, num_labeled, first.batch_size, least / 3)
        ),
        discover=dataclasses.replace(
            second, epochs=epochs(second.epochs, total, second.batch_size, least)
        ),
    )
