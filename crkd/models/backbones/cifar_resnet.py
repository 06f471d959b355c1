"""CIFAR ResNets with three stages, on which distillation methods are compared.

Depth 6n + 2 as in section 4.2 of He et al., CVPR 2016, with a 1x1 convolution where a shortcut
changes shape. Widths as in Tian et al., "Contrastive Representation Distillation", ICLR 2020,
whose wide ``x4`` nets also widen the stem. Other depths have a name too: ``cifar_resnet_1-3-5`` has
one, three and five blocks, and ``cifar_resnet_1-3-5x4`` is its wide version.
"""

from __future__ import annotations

import re

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from crkd.core.errors import InputError
from crkd.models.backbones.base import (
    BACKBONES,
    FREE_DEPTHS_PREFIX,
    Backbone,
    BackboneFactory,
    pooled_stages,
)

PLAIN_WIDTHS = (16, 16, 32, 64)
WIDE_WIDTHS = (32, 64, 128, 256)
MAX_BLOCKS = 200
"""Most blocks of a stage, as in the ResNet-1202 of the paper."""
_WIDTHS_BY_SUFFIX = {"": PLAIN_WIDTHS, "x4": WIDE_WIDTHS}


class CifarResNet(Backbone):
    """A stem and three stages of basic blocks for images of about 32 pixels.

    Args:
        depths: number of blocks in each stage.
        widths: channels of the stem and of each stage.
    """

    def __init__(
        self, depths: tuple[int, int, int], widths: tuple[int, int, int, int] = PLAIN_WIDTHS
    ) -> None:
        super().__init__()
        stem, *stages = widths
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(stem, stages[0], depths[0], stride=1)
        self.layer2 = _stage(stages[0], stages[1], depths[1], stride=2)
        self.layer3 = _stage(stages[1], stages[2], depths[2], stride=2)
        self.num_features = stages[-1]
        self.map_channels = tuple(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and the three stages' maps, after their last ReLU."""
        return pooled_stages(self.relu(self.bn1(self.conv1(images))), self.blocks())

    def blocks(self) -> list[nn.Module]:
        """Return the three stages."""
        return [self.layer1, self.layer2, self.layer3]


def _stage(channels: int, width: int, depth: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or channels != width:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
        )
    first = BasicBlock(channels, width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(depth - 1)))


def free_depths_name(depths: tuple[int, int, int], *, wide: bool = False) -> str:
    """Return the name of a net of these depths for ``build_backbone``.

    >>> free_depths_name((1, 3, 5), wide=True)
    'cifar_resnet_1-3-5x4'
    """
    return FREE_DEPTHS_PREFIX + "-".join(map(str, depths)) + ("x4" if wide else "")


def free_depths_factory(name: str) -> BackboneFactory:
    """Return the factory of a net with a name of :func:`free_depths_name`.

    Raises:
        InputError: the name has another form, or a stage has no or too many blocks.
    """
    depth = r"([1-9]\d{0,2})"
    form = re.fullmatch(rf"{depth}-{depth}-{depth}(|x4)", name[len(FREE_DEPTHS_PREFIX) :])
    if form is None or max(map(int, form.groups()[:3])) > MAX_BLOCKS:
        raise InputError(
            f"unknown backbone {name!r:.100}; give the blocks of the three stages, 1 to "
            f"{MAX_BLOCKS} each, as in {FREE_DEPTHS_PREFIX}1-3-5, or {FREE_DEPTHS_PREFIX}1-3-5x4 "
            "for the wide nets"
        )
    first, second, third, suffix = form.groups()
    return _factory((int(first), int(second), int(third)), _WIDTHS_BY_SUFFIX[suffix])


def _factory(depths: tuple[int, int, int], widths: tuple[int, int, int, int]) -> BackboneFactory:
    def make(image_size: int) -> Backbone:
        del image_size  # one stem for every size
        return CifarResNet(depths, widths)

    return make


def _register(depth: int, suffix: str = "") -> None:
    blocks = (depth - 2) // 6
    factory = _factory((blocks, blocks, blocks), _WIDTHS_BY_SUFFIX[suffix])
    BACKBONES.register(f"resnet{depth}{suffix}")(factory)


for _depth in (8, 20, 32, 56, 110):
    _register(_depth)
for _depth in (8, 32):
    _register(_depth, "x4")
