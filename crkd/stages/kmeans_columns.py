"""The easy baselines that stand beside every result."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import assign, kmeans
from crkd.config.schema import Config
from crkd.models.network import Network
from crkd.stages.forward import forward_subset
from crkd.stages.run_data import RunData

Column = dict[str, NDArray[np.int64]]


def kmeans_columns(
    stage1: Network, data: RunData, config: Config, device: torch.device, num_clusters: int
) -> dict[str, Column]:
    """Cluster the novel training images by k-means, on pixels and on stage-1 features.

    The ``num_clusters`` (M) clusters are found on the novel training images; a test image takes
    the nearest one.

    Returns:
        baseline name -> part name -> ``(n,)`` cluster ids in [0, M).
    """
    columns: dict[str, Column] = {}
    for name in config.evaluation.baselines:
        rows = {
            key: data.pixels(part)
            if name == "kmeans_pixels"
            else forward_subset(stage1, part, data, config, device).features
            for key, part in data.evaluated().items()
        }
        result = kmeans(
            rows["train"],
            num_clusters,
            seed=config.seed,
            num_restarts=config.evaluation.kmeans_restarts,
        )
        columns[name] = {
            key: result.assignment if key == "train" else assign(values, result.centroids)
            for key, values in rows.items()
        }
    return columns
