"""Feature maps in losses: selection, pooling to equal sizes, distance, a trained connector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.precision import full


def stage_map(outputs: HeadOutputs, stage: int) -> Tensor:
    """Return the feature maps of one stage for all views as one batch.

    Args:
        outputs: outputs with maps; all views have the same size.
        stage: index into a view's maps; -1 is the last.

    Returns:
        ``(V * B, channels, h, w)``, view by view.

    Raises:
        RuntimeError: the outputs hold no maps.
        InputError: they hold no map of this stage.
    """
    if not outputs.maps:
        raise RuntimeError("a term that declares feature_maps was given outputs without maps")
    if stage >= len(outputs.maps[0]):
        raise InputError(
            f"a loss compares the feature maps of stage {stage + 1}, but was given "
            f"{len(outputs.maps[0])} maps of each image; pass one per stage of the network"
        )
    return torch.cat([maps[stage] for maps in outputs.maps])


def equal_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps, per side, to the size of the smaller.

    >>> a, b = equal_sizes(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, 4, 4))
    >>> tuple(a.shape), tuple(b.shape)
    ((2, 3, 4, 4), (2, 5, 4, 4))
    """
    size = (
        min(student.shape[-2], teacher.shape[-2]),
        min(student.shape[-1], teacher.shape[-1]),
    )
    return _pooled(student, size), _pooled(teacher, size)


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.adaptive_avg_pool2d(maps, size)


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared difference, in float32 or better; 0 for empty tensors.

    Raises:
        InputError: the shapes differ.
    """
    if first.shape != second.shape:
        raise InputError(
            f"a loss compares tensors of the shapes {tuple(first.shape)} and "
            f"{tuple(second.shape)}; give student and teacher the same samples and the same width"
        )
    square = (full(first) - full(second)).square()
    return square.sum() / max(square.numel(), 1)


def check_stage(loss: str, option: str, stage: int, channels: Sequence[int]) -> None:
    """Check a stage number given by the user, counted from 1 at the input side.

    Args:
        loss: name of the distillation loss, for the message.
        option: name of its option, for the message.
        stage: the number given.
        channels: number of channels of each stage of the network.

    Raises:
        InputError: there is no such stage, or the network has no feature maps.
    """
    if not channels:
        raise InputError(
            f"{loss} compares feature maps, of which this backbone has none; choose another "
            "backbone, or a loss on logits such as kd or lwf"
        )
    if not 1 <= stage <= len(channels):
        raise InputError(
            f"{loss}: {option} is {stage}, but the network has the stages 1 to {len(channels)}; "
            "choose one of these"
        )


class Connector(nn.Module):
    """1x1 convolution, batch norm and optional ReLU that map features to another width.

    Args:
        in_channels: channels of the input maps.
        out_channels: channels of the output maps.
        relu: whether to end with a ReLU, for targets that end with one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, h, w)``; N may be 0.

        Without autocast, half-precision maps are converted to the precision of the weights.
        """
        mixed = self.conv(maps.to(self.conv.weight.dtype))
        norm = self.norm
        if mixed.numel() > mixed.shape[1]:
            normed = norm(mixed)
        else:
            # One value per channel has no variance, so the running statistics are used.
            normed = F.batch_norm(
                mixed, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return F.relu(normed) if self.relu else normed
