"""Initialization of novel prototypes by k-means on the teacher's features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import kmeans
from crkd.clustering.semi_kmeans import semi_kmeans
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import Network
from crkd.training.distributed import broadcast_from_rank_zero

MOST_ROWS = 4096
"""Largest number of samples that orient a head; k-means uses all samples."""
RESTARTS = 3


def in_new_clusters(
    labeled: NDArray[np.float32],
    labels: NDArray[np.int64],
    unlabeled: NDArray[np.float32],
    num_novel: int,
    *,
    seed: int,
) -> NDArray[np.bool_]:
    """Return which unlabeled samples are in a cluster without labeled samples, ``(N,)``.

    Semi-supervised k-means over K + M clusters of directions decides.

    Args:
        labeled: ``(n, D)`` features of labeled samples of all K classes.
        labels: ``(n,)`` their classes in [0, K).
        unlabeled: ``(N, D)`` features, of known and novel classes.
        num_novel: M.
        seed: of the clustering.
    """
    num_known = int(labels.max()) + 1
    found = semi_kmeans(
        np.concatenate([labeled, unlabeled]),
        np.concatenate([labels, np.full(len(unlabeled), -1)]),
        num_known + num_novel,
        seed=seed,
        num_restarts=RESTARTS,
        spherical=True,
    )
    new: NDArray[np.bool_] = found.assignment[len(labels) :] >= num_known
    return new


def prototypes_from_clusters(network: Network, features: NDArray[np.float32], *, seed: int) -> None:
    """Turn the prototypes of every novel head, over-clustering ones too, towards k-means clusters.

    Directions are clustered, as prototypes are compared with directions. Each head has its
    own clustering, so that the heads differ.

    Args:
        network: with fresh novel heads.
        features: ``(N, D)`` of unlabeled samples of novel classes, by the network's own backbone.
        seed: of k-means; each head takes the next one.
    """
    shown = np.linspace(0, len(features) - 1, min(len(features), MOST_ROWS)).astype(np.int64)
    for heads in (network.novel_heads, network.over_heads):
        if isinstance(heads, NovelHeads):
            _point(heads, features, shown, seed)


def _point(
    heads: NovelHeads, features: NDArray[np.float32], shown: NDArray[np.int64], seed: int
) -> None:
    num_clusters = min(heads.prototypes.shape[1], len(features))
    clusters = [
        kmeans(
            features, num_clusters, seed=seed + head, num_restarts=RESTARTS, spherical=True
        ).assignment[shown]
        for head in range(heads.num_heads)
    ]
    device = heads.prototypes.device
    heads.point_at(
        torch.from_numpy(features[shown]).to(device),
        torch.from_numpy(np.stack(clusters)).to(device),
    )
    broadcast_from_rank_zero(heads.prototypes.data)
