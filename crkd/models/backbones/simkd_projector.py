"""Backbone with a projector of the last feature map, for SimKD students."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.models.backbones.base import Backbone

REDUCTION = 2
"""Ratio of the projector's output channels to its middle channels; 2 in the release."""


class ProjectedBackbone(Backbone):
    """A backbone and a projector of its last map to ``channels`` channels.

    The last map is average-pooled by ``stride``, so that it is as large as the teacher's, and then
    projected by three convolutions (1x1, 3x3, 1x1), each with batch norm and ReLU. The mean of the
    projected map is the feature vector. Source: Chen et al., "Knowledge Distillation with the
    Reused Teacher Classifier", CVPR 2022, section 3.2; the reduction factor is the release's.

    Args:
        body: a backbone with feature maps.
        channels: channels of the projected map.
        stride: factor by which the sides of the last map shrink before the projector, rounded up
            to whole pixels; at least 1.

    Raises:
        InputError: the backbone has no feature maps.
    """

    def __init__(self, body: Backbone, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        if not body.map_channels:
            raise InputError(
                "a projector needs the last feature map, and this backbone gives none; choose a "
                "ResNet"
            )
        self.body, self.stride = body, stride
        narrow = max(1, channels // REDUCTION)
        self.projector = nn.Sequential(
            *_layer(body.map_channels[-1], narrow, 1),
            *_layer(narrow, narrow, 3),
            *_layer(narrow, channels, 1),
        )
        self.num_features = channels
        self.map_channels = (*body.map_channels[:-1], channels)

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and the body's maps, the last of them projected."""
        _, maps = self.body.forward_with_maps(images)
        last = maps[-1]
        if self.stride > 1:
            last = F.avg_pool2d(last, self.stride, ceil_mode=True)
        projected = self.projector(last)
        return projected.mean(dim=(2, 3)), (*maps[:-1], projected)

    def blocks(self) -> list[nn.Module]:
        """Return the body's blocks and the projector."""
        return [*self.body.blocks(), self.projector]


def _layer(inputs: int, outputs: int, size: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
