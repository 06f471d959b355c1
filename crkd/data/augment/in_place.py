"""The same crop and colour jitter for the CPU: small pieces, reused memory, no wasted rows.

On a CPU the plain path spends most of its time on memory that it touches once. Here a batch is
worked off in pieces that stay in the cache, every step writes into memory that is kept from
piece to piece, the weights of the resampling come from a table, and a colour operation sees only
the images whose turn it is. The arithmetic is that of :mod:`geometry` and :mod:`colour`, and so
are the results, bit for bit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from crkd.data.augment import colour, geometry
from crkd.data.augment.draws import ViewParameters
from crkd.data.augment.recipe import ViewRecipe

_TABLE_BYTES = 16 * 2**20


class Workspace(threading.local):
    """Float32 scratch memory by name, one set a thread, grown when a larger piece comes."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return uninitialised memory of ``shape``; the last taker of ``name`` loses it."""
        count = 1
        for extent in shape:
            count *= extent
        flat = self._flat.get(name)
        if flat is None or len(flat) < count:
            flat = self._flat[name] = torch.empty(count, dtype=torch.float32)
        return flat[:count].view(shape)


_memory = Workspace()


def render_into(
    view: Tensor,
    images: Tensor,
    parameters: ViewParameters,
    recipe: ViewRecipe,
    scale: Tensor,
    shift: Tensor,
) -> None:
    """Do as :func:`render.render_levels` to a few images, then normalise.

    Args:
        view: ``(B, 3, size, size)``, written.
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images.
        recipe: says which operations can occur.
        scale: ``(3,)`` float32 factor of the levels of each channel.
        shift: ``(3,)`` float32, added after it.
    """
    order, later = _by_hue_place(parameters)
    planes = _cropped_planes(images, parameters, recipe, order)
    drawn = parameters.rows(order)
    if recipe.has_jitter:
        colour_jitter(planes.flatten(2), drawn, later, recipe.hue > 0)
    if recipe.grayscale:
        _change(planes, drawn.grayscale, lambda x, _: colour.grayscale(x))
    if recipe.blur:
        radius = recipe.blur_radius
        _change(planes, drawn.blur, lambda x, i: geometry.gaussian_blur(x, drawn.sigma[i], radius))
    if recipe.solarize:
        _change(planes, drawn.solarize, lambda x, i: colour.solarize(x, drawn.threshold[i]))
    if recipe.equalize:
        _change(planes, drawn.equalize, lambda x, _: colour.equalize(x))
    planes.mul_(scale.view(3, 1, 1, 1)).add_(shift.view(3, 1, 1, 1))
    ordered = _memory.take("levels", *planes.shape)
    torch.index_select(planes, 1, _inverse(order), out=ordered)
    view.copy_(ordered.transpose(0, 1))


def _by_hue_place(parameters: ViewParameters) -> tuple[Tensor, list[int]]:
    """Sort images by the step of their hue shift, latest first, those without jitter at the end.

    The images to be blended are then the first ones before the hue shift and the last ones
    after it: plain slices.

    Returns:
        order: ``(B,)`` int64.
        later: how many images have jitter, and how many a hue shift after step 0, 1 and 2.
    """
    hue_place = (parameters.order == 3).to(torch.int64).argmax(dim=1)
    place, order = torch.where(parameters.jitter, hue_place, -1).sort(descending=True)
    return order, (place > torch.arange(-1, 3).unsqueeze(1)).sum(dim=1).tolist()


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


def _change(planes: Tensor, chosen: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace the chosen images by what ``operation`` makes of them and of their indices."""
    index = chosen.nonzero().squeeze(1)
    if len(index):
        changed = operation(planes.index_select(1, index).transpose(0, 1), index)
        planes.index_copy_(1, index, changed.transpose(0, 1))


def _cropped_planes(
    images: Tensor, parameters: ViewParameters, recipe: ViewRecipe, order: Tensor
) -> Tensor:
    """Return the cropped images in the given order, one plane a channel: ``(3, B, s, s)``.

    Windows of the view's own size are copied, the others resampled. With a plane a channel no
    colour operation has to step over the other two.
    """
    size = recipe.size
    plain = (parameters.height == size) & (parameters.width == size)
    copied = int(plain.sum())
    kinds = plain.to(torch.uint8).argsort(descending=True)
    images = images.index_select(0, kinds)
    place = torch.stack((*parameters[:4], parameters.flip), dim=1).index_select(0, kinds)
    levels = _memory.take("levels", len(images), 3, size, size)
    if copied:
        _copy_windows(images[:copied], place[:copied], size, levels[:copied])
    if copied < len(images):
        _resample_windows(images[copied:], place[copied:], size, levels[copied:])
    if recipe.has_affine:
        levels = geometry.affine(levels, parameters.rows(kinds))
    planes = _memory.take("planes", 3, len(images), size, size)
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


def _resample_windows(images: Tensor, place: Tensor, size: int, out: Tensor) -> None:
    count, stored = len(images), images.shape[-1]
    top, left, height, width, flip = place.unbind(1)
    columns = _weights(left, width, size, stored, flip > 0)
    rows = _weights(top, height, size, stored, None)
    wide = _memory.take("wide", count, 3 * stored, stored)
    wide.copy_(images.view(count, 3 * stored, stored))
    narrow = _memory.take("narrow", count, 3 * stored, size)
    _weighted_levels([(wide, part.transpose(1, 2)) for part in columns], narrow)
    narrow = narrow.view(count * 3, stored, size)
    spread = [part.repeat_interleave(3, dim=0) for part in rows]
    _weighted_levels([(part, narrow) for part in spread], out.view(count * 3, size, size))


def _weighted_levels(factors: list[tuple[Tensor, Tensor]], out: Tensor) -> None:
    torch.bmm(*factors[0], out=out)
    if len(factors) > 1:
        lower = torch.bmm(*factors[1], out=_memory.take("lower", *out.shape))
        out.add_(lower.mul_(2048.0).floor_(), alpha=2.0**-11)
    out.add_(0.5).floor_()


def _weights(
    start: Tensor, length: Tensor, size: int, stored: int, mirrored: Tensor | None
) -> tuple[Tensor, ...]:
    parts = 1 if geometry.one_part(size, stored) else 2
    if 2 * parts * 4 * size * stored**3 > _TABLE_BYTES:
        return geometry.window_matrix(start, length, size, stored, mirrored)
    entry = start * stored + length - 1
    if mirrored is not None:
        entry = entry + mirrored * stored**2
    return tuple(part.index_select(0, entry) for part in _weight_table(size, stored))


@functools.lru_cache(maxsize=8)
def _weight_table(size: int, stored: int) -> tuple[Tensor, ...]:
    """Return the weights of every window, by mirror image, first pixel and length."""
    index = torch.arange(2 * stored**2)
    mirrored, start = index >= stored**2, index // stored % stored
    return geometry.window_matrix(start, index % stored + 1, size, stored, mirrored)


def colour_jitter(
    planes: Tensor, parameters: ViewParameters, later: list[int], with_hue: bool
) -> None:
    """Do as :func:`colour.colour_jitter` to the images that are drawn for it, in place.

    Args:
        planes: ``(3, B, pixels)`` levels, overwritten.
        parameters: of these images, sorted by :func:`_by_hue_place`.
        later: as returned there.
        with_hue: whether the recipe has a hue shift.
    """
    count = later[0]
    planes = planes[:, :count]
    steps = _blend_steps(parameters, count)
    for step in range(3):
        _blend(planes[:, : later[step + 1]], steps[step, :, : later[step + 1]])
    if with_hue and count:
        _shift_hue(planes, parameters.hue[:count])
    for step in range(1, 4):
        _blend(planes[:, later[step] :], steps[step, :, later[step] :])


def _blend_steps(parameters: ViewParameters, count: int) -> Tensor:
    """Return factor, contrast mark and saturation mark of each step, ``(4, 3, count, 1)``."""
    order = parameters.order[:count]
    neutral = torch.ones_like(parameters.hue)
    factors = torch.stack(
        (parameters.brightness, parameters.contrast, parameters.saturation, neutral), dim=1
    )
    factors = factors[:count].gather(1, order)
    steps = torch.stack((factors, (order == 1).float(), (order == 2).float()))
    return steps.permute(2, 0, 1).unsqueeze(3).contiguous()


def _blend(planes: Tensor, step: Tensor) -> None:
    """Blend each image of ``(3, B, pixels)`` with black, its mean level or its grey image."""
    count, pixels = planes.shape[1:]
    if not count:
        return
    factor, is_contrast, is_saturation = step
    red, green, blue = planes
    grey = torch.mul(red, 19595.0, out=_memory.take("grey", count, pixels))
    grey.add_(green, alpha=38470.0).add_(blue, alpha=7471.0)
    grey.add_(32768.0).mul_(2.0**-16).floor_()
    # In float32 the sum of up to 2**14 levels is exact, and so is its rounded mean.
    mean = grey.sum(dim=1, keepdim=True, dtype=torch.float64 if pixels > 2**14 else None)
    mean = mean.add_(0.5 * pixels).div_(pixels).floor_().to(torch.float32).mul_(is_contrast)
    degenerate = grey.mul_(is_saturation).add_(mean)
    planes.sub_(degenerate).mul_(factor).add_(degenerate).clamp_(0.0, 255.0).floor_()


def _shift_hue(planes: Tensor, hue: Tensor) -> None:
    """Turn the colours of ``(3, B, pixels)`` levels through Pillow's 8-bit HSV."""
    red, green, blue = planes
    scratch = _memory.take("hue", 7, *red.shape).unbind(0)
    value, chroma, spare = scratch[:3]
    torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
    torch.minimum(torch.minimum(red, green, out=chroma), blue, out=chroma)
    angle = _third_and_place(planes, scratch)
    torch.floor(angle, out=spare)
    angle.sub_(spare).mul_(255.0).floor_()
    angle.add_(colour.hue_turn(hue).to(torch.float32).unsqueeze(1))
    torch.mul(angle, 2.0**-8, out=spare).floor_()
    angle.sub_(spare, alpha=256.0).mul_(2.0)
    torch.clamp(value, min=1.0, out=spare)
    depth = chroma.mul_(255.0).add_(0.5).div_(spare).floor_().mul_(value)
    missing = _memory.take("missing", *planes.shape)
    for channel, corner in enumerate((255.0, 170.0, 340.0)):
        torch.sub(angle, corner, out=missing[channel])
    missing.abs_()
    missing[0].neg_().add_(255.0)
    missing.sub_(85.0).clamp_(0.0, 85.0).mul_(depth).mul_(1.0 / 21675.0).add_(0.5).floor_()
    torch.sub(value, missing, out=planes)


def _third_and_place(planes: Tensor, scratch: tuple[Tensor, ...]) -> Tensor:
    """Return the hue in turns, at least minus a sixth, and turn the lowest level into the chroma.

    Choices are made by ``lerp`` with marks 0 and 1, which is exact, because boolean selection
    is several times slower on a CPU.
    """
    red, green, blue = planes
    value, chroma, spare, no_blue, no_red, place, third = scratch
    torch.eq(blue, chroma, out=no_blue)
    torch.eq(red, chroma, out=no_red)
    torch.sub(red, blue, out=place)
    place.lerp_(torch.sub(blue, green, out=spare), no_red)
    place.lerp_(torch.sub(green, red, out=spare), no_blue)
    torch.ge(red, blue, out=third).mul_(-6.0).add_(5.0)
    third.lerp_(spare.fill_(3.0), no_red).lerp_(spare.fill_(1.0), no_blue)
    torch.sub(value, chroma, out=chroma)
    return place.div_(torch.clamp(chroma, min=1.0, out=spare)).add_(third).div_(6.0)
