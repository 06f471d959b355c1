"""Crop and color jitter on the CPU: small pieces, reused memory, only the affected images.

On a CPU, the plain path spends most of its time on memory that it uses once. This path processes a
batch in pieces that stay in the cache. Every step writes into memory that is reused for the next
piece, and the resampling weights come from a table. A color operation processes only the images
that are drawn for it. The results equal those of :mod:`geometry` and :mod:`color` bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.data.augment import color, geometry
from crkd.data.augment.chunks import for_each_piece
from crkd.data.augment.parameters import ViewParameters
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.render_cpu_jitter import color_jitter
from crkd.data.augment.scratch import memory
from crkd.data.augment.windows import Windows, window_weights


def render_in_place(
    view: Tensor,
    images: Tensor,
    parameters: ViewParameters,
    recipe: ViewRecipe,
    scale: Tensor,
    shift: Tensor,
) -> None:
    """Apply the operations of the plain path to a batch, then normalize, piece by piece.

    Args:
        view: ``(B, 3, size, size)``, the output.
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images.
        recipe: recipe of the view; it determines the possible operations.
        scale: ``(3, 1, 1)`` float32 factor of the levels of each channel.
        shift: ``(3, 1, 1)`` float32, added after the factor.
    """

    def work(rows: slice) -> None:
        # Half precision cannot represent the levels exactly.
        with torch.autocast("cpu", enabled=False):
            _render(view[rows], images[rows], parameters.rows(rows), recipe, scale, shift)

    for_each_piece(len(images), recipe.size**2, work)


def _render(
    view: Tensor,
    images: Tensor,
    parameters: ViewParameters,
    recipe: ViewRecipe,
    scale: Tensor,
    shift: Tensor,
) -> None:
    order, later = by_hue_place(parameters)
    planes = _cropped_planes(images, parameters, recipe, order)
    drawn = parameters.rows(order)
    if recipe.has_jitter:
        color_jitter(planes.flatten(2), drawn, later, recipe.hue > 0)
    _change_some(planes, drawn, recipe)
    planes.mul_(scale.unsqueeze(1)).add_(shift.unsqueeze(1))
    ordered = memory.take("levels", *planes.shape)
    torch.index_select(planes, 1, _inverse(order), out=ordered)
    view.copy_(ordered.transpose(0, 1))


def _change_some(planes: Tensor, drawn: ViewParameters, recipe: ViewRecipe) -> None:
    """Apply the operations after the jitter to the images drawn for them."""
    size, constants = recipe.size, _coefficients()
    if recipe.grayscale:
        _change(planes, drawn.grayscale, lambda x, _: color.grayscale(x, constants))
    if recipe.blur:
        radius, taps = recipe.blur_radius, _blur_taps(recipe.blur_radius, size)
        _change(
            planes,
            drawn.blur,
            lambda x, i: geometry.gaussian_blur(
                x, geometry.blur_kernels(drawn.sigma[i], radius), taps
            ),
        )
    if recipe.solarize:
        threshold = color.per_image(drawn.threshold)
        _change(planes, drawn.solarize, lambda x, i: color.solarize(x, threshold[i]))
    if recipe.equalize:
        pixels = torch.full((planes.shape[1], 1, 1, 1), float(size**2))
        _change(
            planes,
            drawn.equalize,
            lambda x, i: color.equalize((x,), (pixels[: len(i)],), constants)[0],
        )


@functools.lru_cache(maxsize=1)
def _coefficients() -> color.Coefficients:
    return color.coefficients(torch.device("cpu"))


@functools.lru_cache(maxsize=8)
def _blur_taps(radius: int, side: int) -> Tensor:
    return geometry.blur_taps(radius, side, torch.device("cpu"))


def by_hue_place(parameters: ViewParameters) -> tuple[Tensor, list[int]]:
    """Sort images by the step of their hue shift, latest first, images without jitter last.

    The images to blend before the hue shift are then the first ones, and those to blend after it
    the last ones. Both are slices.

    Returns:
        order: ``(B,)`` int64.
        later: number of images with jitter, and with a hue shift after step 0, 1 and 2.
    """
    hue_place = (parameters.order == 3).to(torch.int64).argmax(dim=1)
    place, order = torch.where(parameters.jitter, hue_place, -1).sort(descending=True)
    return order, (place > torch.arange(-1, 3).unsqueeze(1)).sum(dim=1).tolist()


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


def _change(planes: Tensor, chosen: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace the chosen images by the result of ``operation`` on them and their indices."""
    index = chosen.nonzero().squeeze(1)
    if len(index):
        changed = operation(planes.index_select(1, index).transpose(0, 1), index)
        planes.index_copy_(1, index, changed.transpose(0, 1))


def _cropped_planes(
    images: Tensor, parameters: ViewParameters, recipe: ViewRecipe, order: Tensor
) -> Tensor:
    """Return the cropped images in the given order, one plane per channel: ``(3, B, s, s)``.

    Windows of the view's size are copied, the others are resampled. With one plane per channel, a
    color operation on one channel reads contiguous memory.
    """
    size = recipe.size
    plain = (parameters.height == size) & (parameters.width == size)
    copied = int(plain.sum())
    kinds = plain.to(torch.uint8).argsort(descending=True)
    images = images.index_select(0, kinds)
    place = torch.stack((*parameters[:4], parameters.flip), dim=1).index_select(0, kinds)
    levels = memory.take("levels", len(images), 3, size, size)
    if copied:
        _copy_windows(images[:copied], place[:copied], size, levels[:copied])
    if copied < len(images):
        _resample_windows(images[copied:], place[copied:], recipe, levels[copied:])
    if recipe.has_affine:
        levels = geometry.affine(levels, geometry.affine_maps(parameters.rows(kinds), size))
    planes = memory.take("planes", 3, len(images), size, size)
    source = _inverse(kinds).index_select(0, order)
    for channel in range(3):
        torch.index_select(levels[:, channel], 0, source, out=planes[channel])
    return planes


def _copy_windows(images: Tensor, place: Tensor, size: int, out: Tensor) -> None:
    stored = images.shape[-1]
    top, left, _, _, flip = place.unsqueeze(2).unbind(1)
    offset = torch.arange(size)
    row = top + offset
    column = left + torch.where(flip > 0, size - 1 - offset, offset)
    lowest, highest = place[:, :2].aminmax()
    margin = max(0, -int(lowest), int(highest) + size - stored)
    if margin:
        images = torch.nn.functional.pad(images, (margin,) * 4)
    side = stored + 2 * margin
    source = ((row + margin) * side).unsqueeze(2) + (column + margin).unsqueeze(1)
    source = source.view(len(images), 1, size * size).expand(-1, 3, -1)
    out.copy_(images.view(len(images), 3, side * side).gather(2, source).view(out.shape))


def _resample_windows(images: Tensor, place: Tensor, recipe: ViewRecipe, out: Tensor) -> None:
    count, stored, size = len(images), images.shape[-1], recipe.size
    windows = Windows.of(recipe, stored)
    top, left, height, width, flip = place.unbind(1)
    columns = _weights(windows, left, width, flip)
    rows = _weights(windows, top, height, torch.zeros_like(flip))
    wide = memory.take("wide", count, 3 * stored, stored)
    wide.copy_(images.view(count, 3 * stored, stored))
    narrow = memory.take("narrow", count, 3 * stored, size)
    _weighted_levels([(wide, part.transpose(1, 2)) for part in columns], narrow)
    narrow = narrow.view(count * 3, stored, size)
    spread = [part.repeat_interleave(3, dim=0) for part in rows]
    _weighted_levels([(part, narrow) for part in spread], out.view(count * 3, size, size))


def _weighted_levels(factors: list[tuple[Tensor, Tensor]], out: Tensor) -> None:
    torch.bmm(*factors[0], out=out)
    if len(factors) > 1:
        lower = torch.bmm(*factors[1], out=memory.take("lower", *out.shape))
        out.add_(lower.floor_(), alpha=2.0**-11)
    out.add_(0.5).floor_()


def _weights(
    windows: Windows, start: Tensor, length: Tensor, mirrored: Tensor
) -> tuple[Tensor, ...]:
    """Return the parts of the weights of one axis, ``(B, size, stored)`` each."""
    if windows.tabulated:
        table = _weight_table(windows)
        weights = table.index_select(0, windows.entry(start, length, mirrored))
    else:
        weights = window_weights(start, length, mirrored, windows.size, windows.stored)
    return torch.split(weights, windows.size, 1)


@functools.lru_cache(maxsize=8)
def _weight_table(windows: Windows) -> Tensor:
    return windows.table(torch.device("cpu"))
