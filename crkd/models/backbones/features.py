"""Backbone of precomputed features, which scales them and has no trained parameters.

On frozen features, only the heads are trained. A trained adapter was measured and left out: it
raises the accuracy of known classes but lowers that of novel ones (``docs/features.md``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.models.backbones.base import BACKBONES, Backbone


class FeatureBackbone(Backbone):
    """Centers feature vectors and divides them by their overall standard deviation.

    One factor for all dimensions preserves the relative distances of the features.

    Args:
        num_features: length D of the vectors.
    """

    center: Tensor
    """Mean of the training vectors, ``(D,)``; 0 until :meth:`fit`."""
    spread: Tensor
    """Root mean square of their deviations over all dimensions, scalar; 1 until :meth:`fit`."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.map_channels = ()
        self.register_buffer("center", torch.zeros(num_features))
        self.register_buffer("spread", torch.ones(()))

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Compute center and scale from ``(N, D)`` training vectors, without labels."""
        self.center.copy_(features.mean(dim=0))
        spread = features.var(dim=0, correction=0).mean().sqrt()
        # Equal vectors have no spread and are not scaled.
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, D)`` scaled features of ``(B, D)`` vectors.

        Raises:
            InputError: images were given, or vectors of another length.
        """
        if images.shape[1:] != self.center.shape:
            raise InputError(
                f"samples of shape {tuple(images.shape[1:])} were given to a network of feature "
                f"vectors of length {self.num_features}; give vectors from the network that made "
                "the training vectors"
            )
        scaled: Tensor = (images - self.center) / self.spread
        return scaled

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Raise, because vectors have no maps.

        Raises:
            InputError: always.
        """
        raise InputError(
            "precomputed features have no feature maps; choose a distillation loss that needs none"
        )

    def blocks(self) -> list[nn.Module]:
        """Return no blocks, because nothing is trained."""
        return []


@BACKBONES.register("features")
def build_features(image_size: int) -> Backbone:
    """Return the backbone of vectors of length ``image_size``."""
    return FeatureBackbone(image_size)
