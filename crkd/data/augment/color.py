"""Color operations on batches, with the same results as Pillow on 8-bit images.

Pillow truncates or rounds to whole levels after every operation, and so do these operations.
Images are float32 ``(B, 3, h, w)`` with whole levels 0 to 255. All integer intermediates stay
below 2**24, where float32 is exact. On a GPU every operation costs a kernel launch, so there are
few operations, and the coefficients are tensors that are created once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.data.augment.hue import HueTables, hue_tables, hue_turn, shift_hue
from crkd.data.augment.parameters import ViewParameters

# ITU-R 601-2 luma in 16-bit fixed point, as Pillow's conversion to "L".
_LUMA = (19595.0, 38470.0, 7471.0)
# Up to this many pixels, rounding a float32 mean of whole levels gives the exact result.
_EXACT_PIXELS = 2**12

_STEPS = 6
"""Number of blends that covers every order: three before the hue shift, three after it."""


class Coefficients(NamedTuple):
    """Constants of the color operations on one device.

    Attributes:
        luma: ``(3, 1, 1)`` float32, weights of the channels.
        half: ``(3, 1, 1)`` float32, 0.5 in the first channel, to round the luma.
        one: ``(1,)`` int32.
        levels: ``(256,)`` float32, the levels 0 to 255.
        hue: tables of the hue shift.
    """

    luma: Tensor
    half: Tensor
    one: Tensor
    levels: Tensor
    hue: HueTables


def coefficients(device: torch.device) -> Coefficients:
    """Return the constants, created on the device."""
    luma = torch.cat([torch.full((1,), part * 2.0**-16, device=device) for part in _LUMA])
    half = torch.where(torch.arange(3, device=device) == 0, 0.5, 0.0)
    return Coefficients(
        luma.view(3, 1, 1),
        half.view(3, 1, 1),
        torch.ones(1, dtype=torch.int32, device=device),
        torch.arange(256, dtype=torch.float32, device=device),
        hue_tables(device),
    )


def per_image(values: Tensor) -> Tensor:
    """Shape ``(B,)`` values so that they broadcast over ``(B, 3, h, w)``."""
    return values.view(-1, 1, 1, 1)


def luma(images: Tensor, constants: Coefficients) -> Tensor:
    """Return the gray level of each pixel, ``(B, 1, h, w)`` (Pillow ``convert("L")``)."""
    weighted = torch.addcmul(constants.half, images, constants.luma)
    return weighted.sum(1, keepdim=True).floor_()


def jitter_inputs(parameters: ViewParameters, with_hue: bool) -> Tensor:
    """Return the inputs of :func:`color_jitter` for each view, ``(18 or 20, B)`` float32.

    Every image is hue-shifted once, with one pass of blends before it and one after it. A blend
    that an image does not take in a pass gets the factor 1 and changes nothing.

    Args:
        parameters: parameters of the views.
        with_hue: whether the recipe has a hue shift; even a shift by zero goes through 8-bit HSV.

    Returns:
        factor, contrast mark and saturation mark of each blend; then the hue shift in levels and
        the mark of the images that have one.
    """
    order, jitter = parameters.order, parameters.jitter.unsqueeze(1)
    place = (order == 3).to(torch.int64).argmax(dim=1, keepdim=True)
    number = torch.arange(4, device=order.device)
    active = torch.cat((place > number[:3], place < number[1:]), dim=1) & jitter
    operation = torch.cat((order[:, :3], order[:, 1:]), dim=1)
    strengths = (parameters.brightness, parameters.contrast, parameters.saturation)
    factors = torch.stack((*strengths, torch.ones_like(parameters.hue)), dim=1)
    factor = torch.where(active, factors.gather(1, operation), 1.0)
    marks = [(operation == kind) & active for kind in (1, 2)]
    steps = torch.stack([part.to(torch.float32) for part in (factor, *marks)], dim=2)
    packed = [steps.flatten(1).t()]
    if with_hue:
        packed += [hue_turn(parameters.hue).unsqueeze(0), jitter.to(torch.float32).t()]
    return torch.cat(packed)


def rounding(pixels: int, device: torch.device) -> Tensor:
    """Return the offset that :func:`color_jitter` adds to mean levels before it rounds them down.

    It is half a level, plus half the distance to the next possible mean, so that inexact products
    round correctly.

    Args:
        pixels: pixels of each image.
        device: device of the result.

    Returns:
        0-d, of the dtype in which levels are summed.
    """
    dtype = torch.float32 if pixels <= _EXACT_PIXELS else torch.float64
    return torch.full((), 0.5 + 0.25 / pixels, dtype=dtype, device=device)


def color_jitter(
    images: Tensor, inputs: Tensor, half_level: Tensor, constants: Coefficients
) -> Tensor:
    """Apply brightness, contrast, saturation and hue in the order drawn for each image.

    Args:
        images: ``(B, 3, h, w)`` levels.
        inputs: ``(18 or 20, B, 1, 1, 1)`` from :func:`jitter_inputs`.
        half_level: from :func:`rounding`.
        constants: on the device of ``images``.

    Returns:
        levels of the same shape; images without jitter are unchanged.
    """
    parts = inputs.unbind()
    for step in range(_STEPS):
        if step == _STEPS // 2 and len(parts) > 3 * _STEPS:
            turn, mark = parts[3 * _STEPS :]
            shifted = shift_hue(images, turn, constants.hue)
            images = torch.where(mark > 0, shifted, images)
        images = _blend(images, parts[3 * step : 3 * step + 3], half_level, constants)
    return images


def _blend(
    images: Tensor, step: Sequence[Tensor], half_level: Tensor, constants: Coefficients
) -> Tensor:
    """Blend each image with black, its rounded mean level or its gray image, truncating.

    This is Pillow's ``Image.blend`` as its contrast and saturation operations use it. All products
    with the marks 0 and 1 are exact. The product with the factor is rounded before the sum.
    """
    factor, contrast, saturation = step
    gray = luma(images, constants)
    total = gray.sum((2, 3), keepdim=True, dtype=half_level.dtype)
    share = 1.0 / (gray.shape[2] * gray.shape[3])
    mean = torch.addcmul(half_level, total, contrast, value=share).floor_().to(images.dtype)
    degenerate = torch.addcmul(mean, gray, saturation)
    blended = (images - degenerate).mul_(factor).add_(degenerate)
    return blended.clamp_(0.0, 255.0).floor_()


def grayscale(images: Tensor, constants: Coefficients) -> Tensor:
    """Replace each channel by the luma (torchvision ``to_grayscale``, three channels)."""
    return luma(images, constants).expand_as(images)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the levels at or above each image's threshold (Pillow ``solarize``).

    Args:
        images: ``(B, 3, h, w)`` levels.
        threshold: ``(B, 1, 1, 1)``; 256 inverts none.
    """
    return torch.where(images < threshold, images, 255.0 - images)


def equalize(
    batches: Sequence[Tensor], pixels: Sequence[Tensor], constants: Coefficients
) -> list[Tensor]:
    """Equalize the histogram of each channel of each image (Pillow ``ImageOps.equalize``).

    Several batches of images of different sizes are processed together.

    Args:
        batches: ``(B, 3, h, w)`` levels each.
        pixels: ``(B, 1, 1, 1)`` each, h * w for an image to equalize and 0 for the others.
        constants: constants on the device of the batches.

    Returns:
        levels of the same shapes.
    """
    counts = [len(batch) for batch in batches]
    planes = [
        batch.to(torch.int64, memory_format=torch.contiguous_format).view(
            len(batch), 3, 1, batch.shape[2] * batch.shape[3]
        )
        for batch in batches
    ]
    device = batches[0].device
    histograms = torch.zeros(sum(counts), 3, 1, 256, dtype=torch.int32, device=device)
    for part, plane in zip(torch.split(histograms, counts), planes, strict=True):
        part.scatter_add_(3, plane, constants.one.expand(plane.shape))
    tables = _equalizing_tables(histograms, torch.cat(list(pixels)), constants.levels)
    return [
        table.gather(3, plane).view(batch.shape)
        for table, plane, batch in zip(torch.split(tables, counts), planes, batches, strict=True)
    ]


def _equalizing_tables(histograms: Tensor, pixels: Tensor, levels: Tensor) -> Tensor:
    """Return the new level of each level, float32, from int32 histograms over the last dimension.

    All pixels except those of the brightest level present are distributed over 255 steps. Levels
    do not change if a step would get no pixel or if no pixel counts.
    """
    upto = histograms.cumsum(3, dtype=torch.int32)
    before = upto - histograms
    below_top = upto.mul_(upto < pixels).amax(dim=3, keepdim=True)
    step = torch.div(below_top.clamp(min=255), 255, rounding_mode="floor")
    before.add_(torch.div(step, 2, rounding_mode="floor"))
    table = torch.div(before, step, rounding_mode="floor").clamp_(max=255)
    return torch.where(below_top >= 255, table, levels)
