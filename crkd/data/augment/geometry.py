"""Geometric operations on batches: crop, resize, flip, affine map, blur.

Crop, resize with anti-aliasing, flip and Gaussian blur are separable and linear. Each is one small
matrix per image for the rows and one for the columns. Two batched matrix products therefore apply
them on any device, without a loop over images.

Images are float32 with whole levels 0 to 255 between the steps, as in Pillow.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crkd.data.augment.parameters import ViewParameters


def crop_resize_flip(images: Tensor, weights: Tensor, size: int) -> Tensor:
    """Crop windows, resize them to ``size`` and flip them where drawn.

    The result equals Pillow's crop and ``resize(BILINEAR)``: a triangle filter, widened when the
    window shrinks, columns first, rounded to whole levels after each direction. Pixels outside of
    the stored image are black.

    Args:
        images: ``(B, 3, S, S)`` levels of any dtype.
        weights: ``(2, V * B, parts * size, S)`` float32 from :mod:`windows`, of the rows and of
            the columns of V views, one view of all images after the other.
        size: side of the views in pixels.

    Returns:
        ``(V * B, 3, size, size)`` float32 levels.
    """
    stored, channels = images.shape[-1], images.shape[1]
    rows, columns = weights.unbind()
    # With the channels between rows and columns, both directions are products of whole matrices.
    wide = images.transpose(1, 2).expand(len(rows) // max(1, len(images)), -1, -1, -1, -1)
    wide = wide.to(torch.float32, memory_format=torch.contiguous_format)
    wide = wide.view(len(rows), stored * channels, stored)
    narrow = _whole_levels(torch.bmm(wide, columns.transpose(1, 2)), size, 2)
    narrow = narrow.view(len(rows), stored, channels * size)
    levels = _whole_levels(torch.bmm(rows, narrow), size, 1)
    return levels.view(len(rows), size, channels, size).transpose(1, 2).contiguous()


def _whole_levels(sums: Tensor, size: int, dim: int) -> Tensor:
    """Round weighted sums to whole levels, halves up, from the parts of the weights."""
    if sums.shape[dim] > size:
        upper, lower = torch.split(sums, size, dim)
        # Below 2**-11, only whole multiples can affect the rounding.
        sums = torch.add(upper, lower.floor(), alpha=2.0**-11)
    return sums.add_(0.5).floor_()


def affine_maps(parameters: ViewParameters, side: int) -> Tensor:
    """Return the affine map of each view, ``(B, 6)`` float32, for :func:`affine`.

    Args:
        parameters: angle, shifts, zoom and shear.
        side: side of the views in pixels.
    """
    turn, slope = torch.deg2rad(parameters.angle), torch.tan(torch.deg2rad(parameters.shear))
    sine, cosine = torch.sin(turn), torch.cos(turn)
    # The output is sampled through the inverse of translate @ rotate @ shear @ zoom.
    xx = (cosine - sine * slope) / parameters.zoom
    xy = (sine + cosine * slope) / parameters.zoom
    yx = -sine / parameters.zoom
    yy = cosine / parameters.zoom
    to_unit = 2.0 / side
    x0 = -(xx * parameters.shift_x + xy * parameters.shift_y) * to_unit
    y0 = -(yx * parameters.shift_x + yy * parameters.shift_y) * to_unit
    return torch.stack((xx, xy, x0, yx, yy, y0), dim=1)


def affine(images: Tensor, maps: Tensor) -> Tensor:
    """Rotate, translate, zoom and shear each image about its center, black outside.

    Equals torchvision's ``functional.affine`` on tensors (bilinear, ``fill=None``), with one map
    per image.

    Args:
        images: ``(B, 3, s, s)`` float32 levels.
        maps: ``(B, 6)`` from :func:`affine_maps`.

    Returns:
        float32 levels of the same shape.
    """
    grid = functional.affine_grid(maps.view(-1, 2, 3), list(images.shape), align_corners=False)
    sampled = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return torch.round(sampled)


def blur_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Return the weights of Gaussian kernels, ``(B, 2 * radius + 1)`` float32.

    Args:
        sigma: ``(B,)`` standard deviations in pixels.
        radius: reach of the kernels in pixels.
    """
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    kernels = torch.exp(-0.5 * (offset / sigma.unsqueeze(1)).square())
    return kernels / kernels.sum(dim=1, keepdim=True)


def blur_taps(radius: int, side: int, device: torch.device) -> Tensor:
    """Return the pixels that each kernel position reads, ``(2 * radius + 1, side * side)`` float32.

    Beyond the border, the image is reflected.

    Args:
        radius: reach of the kernel, below ``side``.
        side: side of the image in pixels.
        device: device of the result.
    """
    offset = torch.arange(-radius, radius + 1, device=device)
    pixel = torch.arange(side, device=device)
    source = (pixel + offset.unsqueeze(1)).abs()
    source = side - 1 - (side - 1 - source).abs()
    return (source.unsqueeze(2) == pixel).to(torch.float32).view(2 * radius + 1, side * side)


def gaussian_blur(images: Tensor, kernels: Tensor, taps: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, reflecting at the border.

    torchvision's ``functional.gaussian_blur`` with ``kernel_size = 2 * radius + 1``.

    Args:
        images: ``(B, 3, s, s)`` float32 levels.
        kernels: ``(B, 2 * radius + 1)`` from :func:`blur_kernels`.
        taps: from :func:`blur_taps`.

    Returns:
        float32 levels of the same shape.
    """
    side = images.shape[-1]
    matrix = (kernels @ taps).view(-1, 1, side, side)
    return torch.round(matrix @ images @ matrix.transpose(2, 3))
