"""Batch norm with statistics over the rows of all processes.

torch's own synchronized batch norm needs GPUs; this one also works on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from crkd.core.errors import InputError


class SyncedBatchNorm(nn.BatchNorm2d):
    """Equals ``nn.BatchNorm2d`` on the rows of all processes; all of them must call it.

    In evaluation mode it is a plain batch norm, which any process may call alone.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SyncedBatchNorm:
        """Return a module that shares the parameters and statistics of ``norm``."""
        synced = cls(norm.num_features, norm.eps, norm.momentum, norm.affine)
        synced._parameters, synced._buffers = norm._parameters, norm._buffers
        return synced.train(norm.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, channels, h, w)`` normalized images.

        Raises:
            ValueError: all processes together have one value per channel.
        """
        if not self.training:
            return super().forward(images)
        normalized: Tensor
        normalized, mean, variance, count = _Normalize.apply(  # type: ignore[no-untyped-call]
            images, self.eps
        )
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        if count == 1:
            raise ValueError(f"one value per channel has no variance: shape {tuple(images.shape)}")
        with torch.no_grad():
            self.num_batches_tracked += 1
            # Without a momentum, torch keeps the mean over all batches.
            momentum = self.momentum
            if momentum is None:
                momentum = 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            # The unbiased estimate of the variance, as torch's batch norm keeps.
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        if not self.affine:
            return normalized
        scaled: Tensor = normalized * _by_channel(self.weight) + _by_channel(self.bias)
        return scaled


class _Normalize(torch.autograd.Function):
    """Mean 0 and variance 1 in every channel, over the rows of all processes."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        size = values.new_tensor([values.numel() / values.shape[1]])
        first = torch.cat([values.sum((0, 2, 3)), size])
        dist.all_reduce(first)
        count = first[-1]
        mean = first[:-1] / count
        centered = values - _by_channel(mean)
        # In a second pass, because a mean of squares minus a squared mean would lose precision.
        variance = centered.square().sum((0, 2, 3))
        dist.all_reduce(variance)
        variance /= count
        scale = _by_channel((variance + eps).rsqrt())
        normalized = (centered * scale).to(images.dtype)
        ctx.save_for_backward(normalized, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        normalized, scale, count = ctx.saved_tensors
        gradient = gradients[0].to(scale.dtype)
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * normalized).sum((0, 2, 3))])
        dist.all_reduce(sums)
        mean, along = (_by_channel(row) for row in sums / count)
        return ((gradient - mean - normalized * along) * scale).to(normalized.dtype), None


def synchronize(backbone: nn.Module, device: torch.device) -> None:
    """Replace every batch norm of a backbone by a synchronized one, in place.

    Args:
        backbone: its parameters, statistics and their names do not change.
        device: device of the backbone.

    Raises:
        InputError: a batch norm has a type without a synchronized form.
    """
    for parent in list(backbone.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                if device.type == "cuda":
                    synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
                    synced.train(child.training)
                else:
                    synced = SyncedBatchNorm.of(child)
                setattr(parent, name, synced)
            elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(
                child, SyncedBatchNorm | nn.SyncBatchNorm
            ):
                raise InputError(
                    f"the backbone's layer {name!r} is a {type(child).__name__}, which cannot use "
                    "the rows of several processes; use one process, or another backbone"
                )


def _by_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
