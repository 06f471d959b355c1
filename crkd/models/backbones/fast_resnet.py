"""A residual network for images of about 32 pixels that a CPU trains quickly.

The stem halves the side at once, so that few channels never meet many pixels: convolutions of many
channels use the arithmetic units of a CPU better. It has 14 times the
parameters of ``resnet8``; docs/accuracy-per-minute.md compares their times.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from crkd.models.backbones.base import BACKBONES, Backbone, pooled_stages

STEM = 24
WIDTHS = (48, 128, 256)
DEPTHS = (1, 2, 2)


class _Stage(nn.Module):
    """Convolutions of one width; all but the first are residual.

    Args:
        channels: of the input.
        width: of the output.
        depth: number of convolutions.
        stride: of the first.
    """

    def __init__(self, channels: int, width: int, depth: int, *, stride: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(
                width if number else channels,
                width,
                3,
                stride=1 if number else stride,
                padding=1,
                bias=False,
            )
            for number in range(depth)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))

    def forward(self, hidden: Tensor) -> Tensor:
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            change = norm(conv(hidden))
            hidden = F.relu(hidden + change if number else change, inplace=True)
        return hidden


class FastResNet(Backbone):
    """A stem of stride 2 and three stages, at a half, a quarter and an eighth of the side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(STEM)
        first, second, third = WIDTHS
        self.stage1 = _Stage(STEM, first, DEPTHS[0], stride=1)
        self.stage2 = _Stage(first, second, DEPTHS[1], stride=2)
        self.stage3 = _Stage(second, third, DEPTHS[2], stride=2)
        self.num_features = third
        self.map_channels = WIDTHS
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and the three stages' maps, after their last ReLU."""
        return pooled_stages(F.relu(self.norm(self.stem(images)), inplace=True), self.blocks())

    def blocks(self) -> list[nn.Module]:
        """Return the three stages."""
        return [self.stage1, self.stage2, self.stage3]


@BACKBONES.register("fast_resnet")
def fast_resnet(image_size: int) -> Backbone:
    """Return the network; one stem serves every size."""
    del image_size
    return FastResNet()
