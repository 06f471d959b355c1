"""Colour operations on batches, level for level as Pillow computes them on 8-bit images.

Pillow truncates or rounds to whole levels after every operation, so these do as well: images
are float32 holding whole levels 0 to 255, ``(B, 3, h, w)``. All integer intermediates stay below
2**24, where float32 is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.data.augment.draws import ViewParameters

# ITU-R 601-2 luma in 16-bit fixed point, as Pillow's conversion to "L".
_RED, _GREEN, _BLUE = 19595.0, 38470.0, 7471.0


def per_image(values: Tensor) -> Tensor:
    """Shape ``(B,)`` values so that they broadcast over ``(B, 3, h, w)``."""
    return values.view(-1, 1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Return the grey level of each pixel, ``(B, h, w)`` (Pillow ``convert("L")``)."""
    red, green, blue = images.unbind(1)
    total = red * _RED + green * _GREEN + blue * _BLUE + 32768.0
    return torch.floor(total * 2.0**-16)


def mean_level(grey: Tensor) -> Tensor:
    """Return the rounded mean of ``(B, h, w)`` levels, ``(B, 1, 1, 1)`` (Pillow's contrast)."""
    count = grey.shape[1] * grey.shape[2]
    # Whole numbers: exact in float64 in whatever order the device adds them.
    total = grey.sum(dim=(1, 2), dtype=torch.float64)
    return per_image(torch.floor((total + 0.5 * count) / count).to(grey.dtype))


def blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Move from ``degenerate`` to ``images`` and beyond (Pillow ``Image.blend``, truncating).

    Args:
        degenerate: what a factor of 0 gives, broadcastable to ``images``.
        images: ``(B, 3, h, w)`` levels, what a factor of 1 gives.
        factor: ``(B, 1, 1, 1)``.

    Returns:
        levels of the shape of ``images``.
    """
    return torch.floor((degenerate + factor * (images - degenerate)).clamp(0.0, 255.0))


def shift_hue(images: Tensor, hue: Tensor) -> Tensor:
    """Turn the colour circle through Pillow's 8-bit HSV (torchvision ``adjust_hue``).

    Args:
        images: ``(B, 3, h, w)`` levels.
        hue: ``(B,)`` float32 turns in [-0.5, 0.5], truncated to 1/255 as torchvision does.

    Returns:
        levels of the same shape.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - lowest
    # A whole quotient must not fall below itself on a device with inexact division.
    saturation = torch.floor((255.0 * chroma + 0.5) / value.clamp(min=1.0))
    angle = _hue_level(red, green, blue, lowest, chroma)
    angle = angle + hue_turn(hue).to(images.dtype).view(-1, 1, 1)
    angle = angle - 256.0 * torch.floor(angle * 2.0**-8)
    return _from_hsv(angle, saturation, value)


def hue_turn(hue: Tensor) -> Tensor:
    """Return the whole levels of 1/255 by which torchvision turns Pillow's hue, float64."""
    return torch.trunc(hue.to(torch.float64) * 255.0)


def _hue_level(red: Tensor, green: Tensor, blue: Tensor, lowest: Tensor, chroma: Tensor) -> Tensor:
    """Return Pillow's 8-bit hue; arbitrary where the chroma is zero, since it is not used there.

    The smallest channel fixes the third of the circle, the other two the place within it. With
    one division a pixel this rounds as Pillow's mixed float and double arithmetic does, for
    every one of the 2**24 colours.
    """
    no_blue, no_red = blue == lowest, red == lowest
    place = torch.where(no_blue, green - red, torch.where(no_red, blue - green, red - blue))
    # Between blue and red the circle closes: Pillow counts the red side from below zero.
    closing = torch.where(red >= blue, -1.0, 5.0)
    third = torch.where(no_blue, 1.0, torch.where(no_red, 3.0, closing))
    # Divided by a tensor: CUDA multiplies by the reciprocal of a number, which rounds otherwise.
    turns = (third + place / chroma.clamp(min=1.0)) / red.new_full((), 6.0)
    return torch.floor((turns - torch.floor(turns)) * 255.0)


def _from_hsv(angle: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the RGB levels of Pillow's 8-bit HSV, ``(B, 3, h, w)``.

    Each channel is ``value - value * saturation * missing``, where ``missing`` is a trapezium
    over the circle with corners at multiples of 85 levels / 2: in units of 1/85 a whole number,
    so the product is exact in float32 and never falls on a half.
    """
    doubled = 2.0 * angle
    depth = value * saturation
    missing = (
        (170.0 - (doubled - 255.0).abs()).clamp(0.0, 85.0),
        ((doubled - 170.0).abs() - 85.0).clamp(0.0, 85.0),
        ((doubled - 340.0).abs() - 85.0).clamp(0.0, 85.0),
    )
    return torch.stack(
        [value - torch.floor(depth * part * (1.0 / 21675.0) + 0.5) for part in missing], dim=1
    )


def colour_jitter(images: Tensor, parameters: ViewParameters, with_hue: bool = True) -> Tensor:
    """Apply brightness, contrast, saturation and hue in each image's own order.

    Every image is hue-shifted once: the blends before it and the blends after it are two passes,
    in which a blend that is not an image's turn has the factor 1 and changes nothing.

    Args:
        images: ``(B, 3, h, w)`` levels.
        parameters: of these images; whether they are drawn for jitter at all is not asked.
        with_hue: whether the recipe has a hue shift; even one by zero passes through 8-bit HSV.

    Returns:
        levels of the same shape.
    """
    order = parameters.order
    place = (order == 3).to(torch.int64).argmax(dim=1)
    for step in range(3):
        images = _jitter_blend(images, parameters, order[:, step], place > step)
    if with_hue:
        images = shift_hue(images, parameters.hue)
    for step in range(1, 4):
        images = _jitter_blend(images, parameters, order[:, step], place < step)
    return images


def _jitter_blend(
    images: Tensor, parameters: ViewParameters, operation: Tensor, active: Tensor
) -> Tensor:
    factors = torch.stack((parameters.brightness, parameters.contrast, parameters.saturation), 1)
    factor = factors.gather(1, operation.clamp(max=2).unsqueeze(1)).squeeze(1)
    factor = torch.where(active, factor, 1.0)
    grey = luma(images)
    degenerate = torch.where(
        per_image(operation == 1),
        mean_level(grey),
        torch.where(per_image(operation == 2), grey.unsqueeze(1), 0.0),
    )
    return blend(degenerate, images, per_image(factor))


def grayscale(images: Tensor) -> Tensor:
    """Replace each channel by the luma (torchvision ``to_grayscale``, three channels)."""
    return luma(images).unsqueeze(1).expand_as(images)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the levels at or above each image's threshold, ``(B,)`` (Pillow ``solarize``)."""
    return torch.where(images < per_image(threshold), images, 255.0 - images)


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel of each image (Pillow ``ImageOps.equalize``)."""
    planes = images.flatten(2).flatten(0, 1).to(torch.int64)
    count, pixels = planes.shape
    histogram = torch.zeros(count, 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(1, planes, torch.ones_like(planes, dtype=torch.int32))
    upto = torch.cumsum(histogram, dim=1, dtype=torch.int32)
    # All pixels but those of the brightest level present, shared out over 255 steps.
    below_top = torch.where(upto < pixels, upto, 0).amax(dim=1, keepdim=True)
    step = torch.div(below_top, 255, rounding_mode="floor")
    divisor = step.clamp(min=1)
    before = upto - histogram + torch.div(step, 2, rounding_mode="floor")
    table = torch.div(before, divisor, rounding_mode="floor").clamp(max=255)
    identity = torch.arange(256, device=images.device, dtype=torch.int32)
    table = torch.where(step > 0, table, identity)
    return table.gather(1, planes).to(images.dtype).view(images.shape)
