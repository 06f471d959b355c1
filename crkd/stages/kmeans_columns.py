"""K-means on pixels and on stage-1 features: the baselines in every result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import assign, kmeans
from crkd.models.network import Network
from crkd.stages.run_data import RunData

Column = dict[str, NDArray[np.int64]]


def kmeans_columns(stage1: Network, data: RunData, num_clusters: int) -> dict[str, Column]:
    """Cluster the novel training images by k-means, on pixels and on stage-1 features.

    The clusters are fitted to the novel training images; a test image takes the nearest one.

    Args:
        stage1: frozen network that gives the features.
        data: the images; its configuration names the baselines.
        num_clusters: M.

    Returns:
        baseline name -> subset name -> ``(n,)`` cluster ids in [0, M).
    """
    columns: dict[str, Column] = {}
    for name in data.config.evaluation.baselines:
        rows = {
            key: data.pixels(subset)
            if name == "kmeans_pixels"
            else data.outputs(stage1, subset).features
            for key, subset in data.evaluated().items()
        }
        result = kmeans(
            rows["train"],
            num_clusters,
            seed=data.config.seed,
            num_restarts=data.config.evaluation.kmeans_restarts,
        )
        columns[name] = {
            key: result.assignment if key == "train" else assign(values, result.centroids)
            for key, values in rows.items()
        }
    return columns
