"""Model of an estimator that was fitted on images in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from crkd.config.load import load_config, merge
from crkd.config.schema import Config
from crkd.data.sources.arrays import ArraySource
from crkd.estimator.images import (
    RECIPE,
    Statistics,
    array_data,
    discover_in_memory,
    outputs_of,
    pixel_statistics,
    size_of,
)
from crkd.models.architecture import Architecture
from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import Network, with_one_head
from crkd.stages.forward import Outputs
from crkd.stages.pretrain.run import architecture_of


@dataclass(frozen=True, eq=False)
class ImageModel:
    """A network that was trained on images.

    Attributes:
        network: with one novel head, or none.
        architecture: of the network.
        statistics: of the training images.
        size: height and width of the training images in pixels.
    """

    network: Network
    architecture: Architecture
    statistics: Statistics
    size: tuple[int, int]

    @classmethod
    def fit(
        cls,
        source: ArraySource,
        labels: NDArray[np.int64],
        num_novel: int,
        *,
        config: Config,
        device: torch.device,
        say: Callable[[str], None],
    ) -> ImageModel:
        """Train on labeled and unlabeled images.

        Args:
            source: n images.
            labels: ``(n,)`` in ``[0, K)``, -1 for unlabeled images.
            num_novel: M; 0 if all images are labeled.
            config: of both stages.
            device: where it computes.
            say: receives some lines of progress.
        """
        statistics = pixel_statistics(source)
        data = array_data(source, labels, statistics, config, device)
        network, head = discover_in_memory(data, num_novel, say)
        network = with_one_head(network, head).eval()
        # Convolutions round by the memory format, and a file does not keep the one of training.
        network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        shape = architecture_of(config, data, num_novel=num_novel)
        architecture = dataclasses.replace(shape, num_heads=1, overclustering=0)
        return cls(network, architecture, statistics, size_of(source))

    def outputs(self, source: ArraySource, device: torch.device) -> Outputs:
        """Return the outputs of the network for images."""
        return outputs_of(self.network.to(device), source, self.statistics, device)

    @property
    def width(self) -> int:
        """P, the length of the embedding."""
        heads = self.network.novel_heads
        if isinstance(heads, NovelHeads):
            return int(heads.prototypes.shape[-1])
        return self.network.backbone.num_features

    def embedding(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the rows in the space of the novel prototypes, ``(n, P)`` of length one.

        Without novel classes they are the features of the backbone.
        """
        features = torch.from_numpy(outputs.features)
        heads = self.network.novel_heads
        if isinstance(heads, NovelHeads):
            weight = heads.projection_weight
            with torch.inference_mode():
                features = heads.projections(features.to(weight.device, weight.dtype))[0].cpu()
        unit: NDArray[np.float64] = F.normalize(features.double(), dim=1).numpy()
        return unit


def image_config(parameters: dict[str, Any], seed: int) -> Config:
    """Return the configuration that the parameters of the estimator mean for images.

    Raises:
        InputError: a parameter is out of range.
    """
    term = {"name": "class_relation", "weight": parameters["distillation"]}
    stage = {
        "batch_size": parameters["batch_size"],
        "optimizer": {"lr": parameters["learning_rate"]},
    }
    model = ("backbone", "num_heads", "hidden", "projection")
    given = {
        "seed": seed,
        "model": {name: parameters[name] for name in model},
        "pretrain": {**stage, "epochs": -(-parameters["epochs"] // 3)},
        "discover": {
            **stage,
            "epochs": parameters["epochs"],
            "distillation": [term] if parameters["distillation"] else [],
        },
    }
    return load_config(flags=merge(RECIPE, given))
