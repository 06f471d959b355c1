"""A backbone from outside of crkd."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from crkd.models.backbones.base import Backbone


class ThreeConvolutions(Backbone):
    """Three strided convolutions and a mean; itself the factory that the registry asks for.

    Args:
        image_size: side of the images; every side passes through.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        del image_size
        self.num_features = 32
        self.map_channels = (8, 16, 32)
        widths = (3, *self.map_channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            )
            for a, b in itertools.pairwise(widths)
        )

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the features and the map after each convolution."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return images.mean(dim=(2, 3)), tuple(maps)

    def blocks(self) -> list[nn.Module]:
        """Return the three convolutions."""
        return list(self.stages)
