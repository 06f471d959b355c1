"""Backbone interface and registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.core.registry import Registry
from crkd.models.weights import WeightsReport

FREE_DEPTHS_PREFIX = "cifar_resnet_"


class Backbone(nn.Module, ABC):
    """Maps images of any size to feature vectors.

    Attributes:
        num_features: length D of a feature vector.
        map_channels: channels of each feature map that :meth:`forward_with_maps` returns; empty
            if the architecture has none.
        weights_report: report on the loaded weight file, or None for random weights.
        keeps_statistics: whether batch norm keeps its statistics, also in training.
    """

    num_features: int
    map_channels: tuple[int, ...]
    weights_report: WeightsReport | None = None
    keeps_statistics: bool = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, D)`` features of ``(B, 3, h, w)`` images."""
        return self.forward_with_maps(images)[0]

    @abstractmethod
    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and the feature maps ``(B, channels, h, w)`` after each stage."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Return the blocks that ``trained_blocks`` counts, input side first."""

    @property
    def loadable(self) -> nn.Module:
        """The module whose parameter names match published weight files."""
        return self

    def freeze_all_but(self, trained_blocks: int) -> None:
        """Make only the last ``trained_blocks`` blocks trainable; 0 freezes everything.

        Modules outside the blocks (stem, position embedding, final norm) are frozen too, as in
        the released Cr-KD-NCD and GCD code.

        Raises:
            InputError: the backbone has fewer blocks.
        """
        blocks = self.blocks()
        if not 0 <= trained_blocks <= len(blocks):
            raise InputError(
                f"trained_blocks is {trained_blocks}, but this backbone has {len(blocks)} blocks; "
                f"choose 0 to {len(blocks)}, or leave it out to train everything"
            )
        self.requires_grad_(False)
        for block in blocks[len(blocks) - trained_blocks :]:
            block.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training mode, except for batch norm and dropout of frozen modules.

        New statistics of a frozen batch norm would not match its frozen weights. With
        ``keeps_statistics``, no batch norm updates its statistics.
        """
        super().train(mode)
        whole = all(parameter.requires_grad for parameter in self.parameters())
        if mode and (self.keeps_statistics or not whole):
            for module in self.modules():
                parameters = list(module.parameters())
                frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
                if frozen or (self.keeps_statistics and isinstance(module, nn.BatchNorm2d)):
                    module.eval()
        return self


def pooled_stages(hidden: Tensor, stages: Iterable[nn.Module]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the features and the maps of a convolutional network.

    Args:
        hidden: ``(B, channels, h, w)`` output of the stem.
        stages: each takes the map of the one before.

    Returns:
        ``(B, D)`` average of the last map, and the map after each stage.
    """
    maps = []
    for stage in stages:
        hidden = stage(hidden)
        maps.append(hidden)
    return hidden.mean(dim=(2, 3)), tuple(maps)


class BackboneFactory(Protocol):
    """Creates one kind of backbone with random weights for images of a given size."""

    def __call__(self, image_size: int) -> Backbone:
        """Return the backbone for images of ``image_size`` pixels a side."""
        ...


BACKBONES: Registry[BackboneFactory] = Registry(
    "backbone", "crkd.models.backbones", "crkd.backbones"
)
