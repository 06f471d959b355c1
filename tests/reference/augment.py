"""Naive reference of the augmentation: one formula after the other, as they read.

Whole batches on any device, with no regard to how many operations that takes: what the plain path
has to equal level for level.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crkd.data.augment import ViewParameters, ViewRecipe


def render_levels(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe) -> Tensor:
    """Render a view before normalization by the plain path, the specification."""
    levels = crop_resize_flip(images.to(torch.float32), parameters, recipe.size)
    if recipe.has_affine:
        levels = affine(levels, parameters)
    if recipe.has_jitter:
        jittered = color_jitter(levels, parameters, recipe.hue > 0)
        levels = _choose(parameters.jitter, jittered, levels)
    if recipe.grayscale:
        levels = _choose(parameters.grayscale, grayscale(levels), levels)
    if recipe.blur:
        blurred = gaussian_blur(levels, parameters.sigma, recipe.blur_radius)
        levels = _choose(parameters.blur, blurred, levels)
    if recipe.solarize:
        solarized = solarize(levels, parameters.threshold)
        levels = _choose(parameters.solarize, solarized, levels)
    if recipe.equalize:
        levels = _choose(parameters.equalize, equalize(levels), levels)
    return levels


def _choose(chosen: Tensor, changed: Tensor, levels: Tensor) -> Tensor:
    return torch.where(per_image(chosen), changed, levels)


def crop_resize_flip(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Cut each image's window, bring it to ``size`` and mirror it where drawn.

    Pillow's crop and ``resize(BILINEAR)``, level for level: a triangle filter, widened when the
    window shrinks, columns first, rounded to whole levels after each direction. What is
    outside the stored image is black.
    """
    count, channels, stored, _ = images.shape
    columns = window_matrix(parameters.left, parameters.width, size, stored, parameters.flip)
    rows = window_matrix(parameters.top, parameters.height, size, stored)
    wide = images.reshape(count, channels * stored, stored)
    narrow = _whole_levels([torch.bmm(wide, part.transpose(1, 2)) for part in columns])
    narrow = narrow.view(count, channels, stored, size)
    return _whole_levels([torch.matmul(part.unsqueeze(1), narrow) for part in rows])


def window_matrix(
    start: Tensor, length: Tensor, size: int, stored: int, mirrored: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the weights that take one axis of the stored image to the view's axis.

    Pillow keeps them as whole multiples of 2**-22. They come as the sum of two parts, whole
    multiples of 2**-11 and of 2**-22 with eleven digits each: products with 8-bit levels are then
    exact in float32 and even in TF32, so that every device sums them to the same number in any
    order.
    """
    position = torch.arange(size, device=start.device)
    if mirrored is not None:
        position = torch.where(mirrored.unsqueeze(1), size - 1 - position, position)
    # Distances between pixel centers in units of 1 / (2 * size) are integers.
    first, span = start.unsqueeze(1), length.unsqueeze(1)
    center = ((2 * position + 1) * span).to(torch.float32).unsqueeze(2)
    relative = torch.arange(stored, device=start.device) - first
    pixel = ((2 * relative + 1) * size).to(torch.float32)
    # Beyond the window's edge a pixel is moved out of every filter's reach.
    pixel = torch.where((relative >= 0) & (relative < span), pixel, -4.0 * (size + stored) ** 2)
    reach = (2 * span.clamp(min=size)).to(torch.float32).unsqueeze(2)
    height = (reach - (pixel.unsqueeze(1) - center).abs()).clamp(min=0.0)
    total = height.sum(dim=2, keepdim=True).clamp(min=1.0)
    scaled = height * 2048.0
    # To nearest, so that a device's last-digit error in a division cannot lose a whole unit.
    upper = torch.floor(scaled / total + 0.5)
    if one_part(size, stored):
        return (upper * 2.0**-11,)
    lower = torch.floor((scaled - upper * total) * 2048.0 / total + 0.5)
    return upper * 2.0**-11, lower * 2.0**-22


def one_part(size: int, stored: int) -> bool:
    """Tell whether all weights are whole multiples of 2**-11: enlargement to a power of two."""
    return size & (size - 1) == 0 and stored <= size <= 1024


def _whole_levels(sums: list[Tensor]) -> Tensor:
    """Round weighted sums to levels, halves upwards, from the parts of the weights."""
    total = sums[0]
    if len(sums) > 1:
        # Below 2**-11 only the whole multiples can carry over into the rounding.
        total = total + torch.floor(sums[1] * 2048.0) * 2.0**-11
    return torch.floor(total + 0.5)


def affine(images: Tensor, parameters: ViewParameters) -> Tensor:
    """Rotate, shift, zoom and shear each image about its center, black outside.

    torchvision's ``functional.affine`` on tensors (bilinear, ``fill=None``), one map an image.
    """
    side = images.shape[-1]
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
    theta = torch.stack((xx, xy, x0, yx, yy, y0), dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    sampled = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return torch.round(sampled)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image with its own Gaussian, reflecting at the border.

    torchvision's ``functional.gaussian_blur`` with ``kernel_size = 2 * radius + 1``.
    """
    side = images.shape[-1]
    offset = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offset / sigma.unsqueeze(1)).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    pixel = torch.arange(side, device=images.device)
    source = (pixel + offset.unsqueeze(1)).abs()
    source = side - 1 - (side - 1 - source).abs()
    taps = (source.unsqueeze(2) == pixel).to(images.dtype).view(2 * radius + 1, side * side)
    matrix = (kernel @ taps).view(-1, 1, side, side)
    return torch.round(matrix @ images @ matrix.transpose(2, 3))


# ITU-R 601-2 luma in 16-bit fixed point, as Pillow's conversion to "L".
_RED, _GREEN, _BLUE = 19595.0, 38470.0, 7471.0


def per_image(values: Tensor) -> Tensor:
    """Shape ``(B,)`` values so that they broadcast over ``(B, 3, h, w)``."""
    return values.view(-1, 1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Return the gray level of each pixel, ``(B, h, w)`` (Pillow ``convert("L")``)."""
    red, green, blue = images.unbind(1)
    total = red * _RED + green * _GREEN + blue * _BLUE + 32768.0
    return torch.floor(total * 2.0**-16)


def mean_level(gray: Tensor) -> Tensor:
    """Return the rounded mean of ``(B, h, w)`` levels, ``(B, 1, 1, 1)`` (Pillow's contrast)."""
    count = gray.shape[1] * gray.shape[2]
    # Whole numbers: exact in float64 in whatever order the device adds them.
    total = gray.sum(dim=(1, 2), dtype=torch.float64)
    return per_image(torch.floor((total + 0.5 * count) / count).to(gray.dtype))


def blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Move from ``degenerate`` to ``images`` and beyond (Pillow ``Image.blend``, truncating)."""
    return torch.floor((degenerate + factor * (images - degenerate)).clamp(0.0, 255.0))


def shift_hue(images: Tensor, hue: Tensor) -> Tensor:
    """Turn the color circle through Pillow's 8-bit HSV (torchvision ``adjust_hue``)."""
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
    every one of the 2**24 colors.
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


def color_jitter(images: Tensor, parameters: ViewParameters, with_hue: bool = True) -> Tensor:
    """Apply brightness, contrast, saturation and hue in each image's own order.

    Every image is hue-shifted once: the blends before it and the blends after it are two passes,
    in which a blend that is not an image's turn has the factor 1 and changes nothing.
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
    gray = luma(images)
    degenerate = torch.where(
        per_image(operation == 1),
        mean_level(gray),
        torch.where(per_image(operation == 2), gray.unsqueeze(1), 0.0),
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
