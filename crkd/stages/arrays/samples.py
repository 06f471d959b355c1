"""Samples in arrays: feature vectors or images in memory."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.data.sources.arrays import ArraySource
from crkd.data.splits.partition import Subset
from crkd.data.storage.in_memory import InMemoryImages
from crkd.data.vectors.views import FeatureStore
from crkd.models.network import Network
from crkd.stages.arrays.training import Material
from crkd.stages.arrays.vectors import lengthened, material_of_vectors
from crkd.stages.forward import Outputs, forward_store, whole_images
from crkd.stages.views import discovery_views, pretraining_views

Rows = NDArray[np.int64]


class Samples(Protocol):
    """N samples for training and prediction.

    Attributes:
        recipe: settings under which they are trained unless told otherwise.
        extent: D of vectors, side of images in pixels.
    """

    recipe: dict[str, Any]
    extent: int

    def material(
        self,
        labeled: Rows,
        labels: NDArray[np.int64],
        unlabeled: Rows | None,
        config: Config,
        device: torch.device,
    ) -> tuple[Material, Config]:
        """Return the training data, and the configuration fitted to its size."""

    def outputs(self, network: Network, device: torch.device) -> Outputs:
        """Return the network's outputs on all samples."""


class Vectors:
    """Feature vectors.

    Args:
        values: ``(N, D)`` float32, finite.
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.recipe: dict[str, Any] = {"dataset": "features"}
        self.extent = values.shape[1]
        self._values = values

    def material(
        self,
        labeled: Rows,
        labels: NDArray[np.int64],
        unlabeled: Rows | None,
        config: Config,
        device: torch.device,
    ) -> tuple[Material, Config]:
        """Return the training data; small sets train for more epochs."""
        parts = [
            None if rows is None else torch.from_numpy(self._values[rows]).to(device)
            for rows in (labeled, unlabeled)
        ]
        assert parts[0] is not None
        config = lengthened(config, len(labeled), 0 if unlabeled is None else len(unlabeled))
        return material_of_vectors(parts[0], labels, parts[1], config), config

    def outputs(self, network: Network, device: torch.device) -> Outputs:
        """Return the network's outputs on all samples."""
        store = FeatureStore(torch.from_numpy(self._values).to(device))
        return forward_store(network, store, lambda vectors: vectors, batch_size=4096)


class Images:
    """Images of one size.

    Args:
        pixels: ``(N, H, W, 3)`` or ``(N, 3, H, W)`` uint8.
        statistics: mean and standard deviation of each channel, in [0, 1], of the images that
            the network was trained on; None takes those of ``pixels``.

    Raises:
        InputError: the array has another shape or type.
    """

    def __init__(
        self, pixels: NDArray[np.generic], statistics: tuple[Any, Any] | None = None
    ) -> None:
        self.recipe: dict[str, Any] = {
            "dataset": "images",
            "model": {"backbone": "resnet8"},
            "pretrain": {"epochs": 40, "optimizer": {"warmup_epochs": 2, "weight_decay": 5e-4}},
            "discover": {"epochs": 40, "num_small": 0, "optimizer": {"warmup_epochs": 3}},
        }
        self._source = ArraySource(pixels, np.full(len(pixels), -1), ())
        height, width, _ = self._source.read(0).shape
        self.extent = min(height, width)
        self.statistics = self._measured() if statistics is None else statistics

    def _measured(self) -> tuple[Any, Any]:
        images = np.stack([self._source.read(row) for row in range(len(self._source))])
        levels = images.reshape(-1, 3)
        # A channel without any contrast keeps its scale.
        spread = np.maximum(levels.std(axis=0, dtype=np.float64), 1.0)
        mean = tuple((levels.mean(axis=0, dtype=np.float64) / 255).tolist())
        return mean, tuple((spread / 255).tolist())

    def _store(self, rows: Rows, device: torch.device) -> InMemoryImages:
        part = Subset(self._source, rows, np.full(len(rows), -1), [])
        return InMemoryImages(part, self.extent, device)

    def material(
        self,
        labeled: Rows,
        labels: NDArray[np.int64],
        unlabeled: Rows | None,
        config: Config,
        device: torch.device,
    ) -> tuple[Material, Config]:
        """Return the training data."""
        made = Material(
            self._store(labeled, device),
            labels,
            None if unlabeled is None else self._store(unlabeled, device),
            pretraining_views(config, self.extent, *self.statistics),
            discovery_views(config, self.extent, *self.statistics),
        )
        return made, config

    def outputs(self, network: Network, device: torch.device) -> Outputs:
        """Return the network's outputs on all samples."""
        mean, std = self.statistics
        everything = np.arange(len(self._source))
        return forward_store(
            network, self._store(everything, device), whole_images(self.extent, mean, std)
        )
