"""Where each output pixel comes from: crop, resize, mirror image, affine map, blur.

Crop, enlargement and reduction with anti-aliasing, mirror image and Gaussian blur are all
separable and linear, so each is one small matrix an image for the rows and one for the columns:
two batched products, alike on every device, with no loop over images.

Images are float32 with whole levels 0 to 255 between the steps, because Pillow's are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crkd.data.augment.draws import ViewParameters


def crop_resize_flip(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Cut each image's window, bring it to ``size`` and mirror it where drawn.

    Pillow's crop and ``resize(BILINEAR)``, level for level: a triangle filter, widened when the
    window shrinks, columns first, rounded to whole levels after each direction. What lies
    outside the stored image is black.

    Args:
        images: ``(B, 3, S, S)`` float32 levels.
        parameters: the windows and mirror images.
        size: side of the output in pixels.

    Returns:
        ``(B, 3, size, size)`` float32 levels.
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

    Args:
        start: ``(B,)`` first pixel of the window.
        length: ``(B,)`` pixels of the window.
        size: pixels of the view.
        stored: pixels of the stored image.
        mirrored: ``(B,)`` bool, whether the view runs backwards.

    Returns:
        ``(upper,)`` or ``(upper, lower)``, each ``(B, size, stored)`` float32; the lower part is
        left out where it is always zero. A row's weights sum to one up to Pillow's rounding, or
        to zero outside the stored image.
    """
    position = torch.arange(size, device=start.device)
    if mirrored is not None:
        position = torch.where(mirrored.unsqueeze(1), size - 1 - position, position)
    # Distances between pixel centres in units of 1 / (2 * size) are integers.
    first, span = start.unsqueeze(1), length.unsqueeze(1)
    centre = ((2 * position + 1) * span).to(torch.float32).unsqueeze(2)
    relative = torch.arange(stored, device=start.device) - first
    pixel = ((2 * relative + 1) * size).to(torch.float32)
    # Beyond the window's edge a pixel is moved out of every filter's reach.
    pixel = torch.where((relative >= 0) & (relative < span), pixel, -4.0 * (size + stored) ** 2)
    reach = (2 * span.clamp(min=size)).to(torch.float32).unsqueeze(2)
    height = (reach - (pixel.unsqueeze(1) - centre).abs()).clamp(min=0.0)
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
    """Rotate, shift, zoom and shear each image about its centre, black outside.

    torchvision's ``functional.affine`` on tensors (bilinear, ``fill=None``), one map an image.

    Args:
        images: ``(B, 3, s, s)`` float32 levels.
        parameters: angle, shifts, zoom and shear.

    Returns:
        float32 levels of the same shape.
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

    Args:
        images: ``(B, 3, s, s)`` float32 levels.
        sigma: ``(B,)`` standard deviations in pixels.
        radius: reach of the kernel, below ``s``.

    Returns:
        float32 levels of the same shape.
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
