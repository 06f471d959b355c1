"""ResNets of torchvision, with a 3x3 stem for small images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from crkd.models.backbones.base import BACKBONES, Backbone, BackboneFactory, pooled_stages

SMALL_IMAGE = 64


class ResNet(Backbone):
    """A ResNet of torchvision without its classifier; parameter names are torchvision's.

    Args:
        architecture: name in ``torchvision.models``.
        image_size: up to 64 pixels the stem is a 3x3 convolution of stride 1 without pooling,
            which keeps the resolution; above it is the usual 7x7 one.
    """

    def __init__(self, architecture: str, image_size: int) -> None:
        super().__init__()
        net = getattr(torchvision.models, architecture)()
        self.conv1 = net.conv1
        self.bn1 = net.bn1
        self.relu = net.relu
        self.maxpool = net.maxpool
        if image_size <= SMALL_IMAGE:
            self.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.maxpool = nn.Identity()
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        self.num_features = int(net.fc.in_features)
        expansion = self.num_features // 512
        self.map_channels = tuple(width * expansion for width in (64, 128, 256, 512))

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and the four stages' maps, after their last ReLU."""
        return pooled_stages(self.maxpool(self.relu(self.bn1(self.conv1(images)))), self.blocks())

    def blocks(self) -> list[nn.Module]:
        """Return the four stages."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]


def _factory(architecture: str) -> BackboneFactory:
    def make(image_size: int) -> Backbone:
        return ResNet(architecture, image_size)

    return make


for _name in ("resnet18", "resnet34", "resnet50"):
    BACKBONES.register(_name)(_factory(_name))
