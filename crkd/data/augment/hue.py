"""Hue shift from tables, with the same results as Pillow on 8-bit images.

Pillow converts to 8-bit hue, saturation and value. Its hue depends only on two differences of
channels, and its rounding is irregular where a hue is exactly a whole level. A table stores its
results, so that neither a division nor a fused operation of a device can change them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_REACH = 255
_SPAN = 2 * _REACH + 1


class HueTables(NamedTuple):
    """Tables and coefficients of :func:`shift_hue` on one device.

    Attributes:
        weights: ``(3, 1, 1)`` float32; the weighted sum of the channels and ``origin`` is the
            index of a color in ``hues``.
        origin: ``(3, 1, 1)`` float32.
        hues: ``(511 * 511,)`` int64, hue in [0, 255) by the differences red - green, green - blue.
        depths: ``(256 * 256,)`` float32, value times saturation by the highest and lowest channel.
        missing: ``(3, 512)`` float32 in [0, 85]; by the shifted hue, the fraction of the depth by
            which each channel is below the value.
    """

    weights: Tensor
    origin: Tensor
    hues: Tensor
    depths: Tensor
    missing: Tensor


def hue_tables(device: torch.device) -> HueTables:
    """Return the tables, created on the device."""
    level = torch.arange(_SPAN, dtype=torch.float32, device=device) - _REACH
    hues = _hue_level(level.unsqueeze(1), level).to(torch.int64).flatten()
    value = torch.arange(256, dtype=torch.float32, device=device).unsqueeze(1)
    chroma = (value - value.t()).clamp(min=0.0)
    # A whole quotient must not become smaller on a device with inexact division.
    depths = value * torch.floor((255.0 * chroma + 0.5) / value.clamp(min=1.0))
    doubled = 2.0 * (torch.arange(512, dtype=torch.float32, device=device) % 256)
    missing = (
        170.0 - (doubled - 255.0).abs(),
        (doubled - 170.0).abs() - 85.0,
        (doubled - 340.0).abs() - 85.0,
    )
    channel = torch.arange(3, device=device).view(3, 1, 1)
    weights = torch.where(channel == 0, float(_SPAN), torch.where(channel == 1, 1.0 - _SPAN, -1.0))
    origin = torch.where(channel == 0, float(_REACH * (_SPAN + 1)), 0.0)
    return HueTables(weights, origin, hues, depths.flatten(), torch.stack(missing).clamp(0.0, 85.0))


def _hue_level(red_green: Tensor, green_blue: Tensor) -> Tensor:
    """Return Pillow's 8-bit hue from two differences of channels; arbitrary if all are equal.

    The smallest channel determines the third of the color circle, the other two the position
    within it. One division per color rounds as Pillow's mixed float and double arithmetic does,
    for every one of the 2**24 colors.
    """
    red, green, blue = red_green, torch.zeros_like(red_green), -green_blue
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - lowest
    no_blue, no_red = blue == lowest, red == lowest
    place = torch.where(no_blue, green - red, torch.where(no_red, blue - green, red - blue))
    # Between blue and red the circle closes: Pillow counts the red side from below zero.
    closing = torch.where(red >= blue, -1.0, 5.0)
    third = torch.where(no_blue, 1.0, torch.where(no_red, 3.0, closing))
    # Division by a tensor, because CUDA multiplies by the reciprocal of a number, which rounds
    # differently.
    turns = (third + place / chroma.clamp(min=1.0)) / torch.full_like(place, 6.0)
    return torch.floor((turns - torch.floor(turns)) * 255.0)


def hue_turn(hue: Tensor) -> Tensor:
    """Return the levels by which torchvision shifts Pillow's hue, float32 in [0, 256).

    Args:
        hue: float32 turns in [-0.5, 0.5], truncated to 1/255 as torchvision does.

    >>> hue_turn(torch.tensor([0.1, -0.1])).tolist()
    [25.0, 231.0]
    """
    return torch.trunc(hue.to(torch.float64) * 255.0).remainder(256.0).to(torch.float32)


def shift_hue(images: Tensor, turn: Tensor, tables: HueTables) -> Tensor:
    """Shift the hue through Pillow's 8-bit HSV (torchvision ``adjust_hue``).

    Each channel is the value minus a whole number of 1 / 21675 of the depth. This is exact in
    float32 and never on a half.

    Args:
        images: ``(B, 3, h, w)`` float32 levels.
        turn: ``(B, 1, 1, 1)`` from :func:`hue_turn`.
        tables: on the device of ``images``.

    Returns:
        levels of the same shape.
    """
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    depth = tables.depths[torch.add(lowest, value, alpha=256.0).to(torch.int64)]
    place = torch.addcmul(tables.origin, images, tables.weights).sum(1)
    angle = tables.hues[place.to(torch.int64)].add_(turn.squeeze(1).to(torch.int64))
    missing = tables.missing[:, angle].transpose(0, 1)
    below = torch.mul(depth, missing).add_(10837.5).mul_(1.0 / 21675.0).floor_()
    return value - below
