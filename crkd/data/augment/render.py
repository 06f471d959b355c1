"""From stored images and drawn parameters to the normalised views a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.augment import colour, geometry, in_place
from crkd.data.augment.draws import ViewParameters, draw
from crkd.data.augment.pieces import for_each_piece
from crkd.data.augment.recipe import ViewRecipe


def make_views(
    images: Tensor,
    recipes: Sequence[ViewRecipe],
    *,
    seed: int,
    epoch: Tensor | int,
    image_id: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> tuple[Tensor, ...]:
    """Draw and render several views of B images; equal recipes in a row are rendered as one batch.

    Gives what :func:`make_view` gives for the views 0, 1, ..., with fewer and larger operations.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        recipes: one a view.
        seed: seed of the run.
        epoch: number of the pass over the data: a Python or a 0-d device integer, or ``(B,)``
            int64 where images are in different passes.
        image_id: ``(B,)`` int64 on the device of ``images``.
        mean: of each channel, images scaled to [0, 1].
        std: of each channel, likewise.
        dtype: of the output.
        channels_last: whether the output has that memory format.

    Returns:
        the views, ``(B, 3, size, size)`` each.

    Raises:
        InputError: as :func:`make_view`.
    """
    views: list[Tensor] = []
    while len(views) < len(recipes):
        first = len(views)
        recipe = recipes[first]
        count = 1
        # Not itertools.groupby, which torch.compile cannot trace over recipes.
        while first + count < len(recipes) and recipes[first + count] == recipe:
            count += 1
        number = torch.arange(first, first + count, device=images.device)
        batch = make_view(
            images.repeat(count, 1, 1, 1),
            recipe,
            seed=seed,
            epoch=epoch.repeat(count) if _one_an_image(epoch) else epoch,
            image_id=image_id.repeat(count),
            view=number.unsqueeze(1).expand(count, len(image_id)).reshape(-1),
            mean=mean,
            std=std,
            dtype=dtype,
            channels_last=channels_last,
        )
        views += batch.chunk(count)
    return tuple(views)


def _one_an_image(epoch: Tensor | int) -> TypeGuard[Tensor]:
    return isinstance(epoch, Tensor) and epoch.ndim == 1


def make_view(
    images: Tensor,
    recipe: ViewRecipe,
    *,
    seed: int,
    epoch: Tensor | int,
    image_id: Tensor,
    view: Tensor | int,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Draw and render one view of B images.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        recipe: what may happen to the view.
        seed: seed of the run.
        epoch: number of the pass over the data: a Python or a 0-d device integer, or ``(B,)``
            int64 where images are in different passes.
        image_id: ``(B,)`` int64 on the device of ``images``.
        view: number of the view within the step, one for all images or ``(B,)`` int64.
        mean: of each channel, images scaled to [0, 1].
        std: of each channel, likewise.
        dtype: of the output.
        channels_last: whether the output has that memory format.

    Returns:
        ``(B, 3, size, size)`` normalised view.

    Raises:
        InputError: the images are not square uint8 RGB, or the recipe cannot crop them.
    """
    parameters = draw(
        recipe,
        seed=seed,
        epoch=epoch,
        image_id=image_id,
        view=view,
        stored_size=images.shape[-1],
    )
    return render(
        images, parameters, recipe, mean=mean, std=std, dtype=dtype, channels_last=channels_last
    )


def render(
    images: Tensor,
    parameters: ViewParameters,
    recipe: ViewRecipe,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Render the view that ``parameters`` describe; the same parameters give the same view.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images and ``recipe``, in the same order.
        recipe: says which operations can occur at all.
        mean: of each channel, images scaled to [0, 1].
        std: of each channel, likewise, above zero.
        dtype: of the output.
        channels_last: whether the output has that memory format.

    Returns:
        ``(B, 3, size, size)`` normalised view.

    Raises:
        InputError: the images are not square uint8 RGB, or ``mean`` or ``std`` are unusable.
    """
    _check(images, mean, std)
    factor = [1.0 / (255.0 * spread) for spread in std]
    offset = [-centre / spread for centre, spread in zip(mean, std, strict=True)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (len(images), 3, recipe.size, recipe.size)
    if images.device.type == "cpu" and not torch.compiler.is_compiling():
        # Memory kept from call to call must not be born an inference tensor.
        with torch.inference_mode(False), torch.no_grad():
            view = torch.empty(shape, dtype=dtype, memory_format=layout)
            _render_on_cpu(images, parameters, recipe, factor, offset, view)
        return view
    view = torch.empty(shape, dtype=dtype, device=images.device, memory_format=layout)
    # Half precision would lose digits of the levels.
    with torch.autocast(images.device.type, enabled=False):
        levels = render_levels(images, parameters, recipe)
        for channel in range(3):
            view[:, channel] = levels[:, channel] * factor[channel] + offset[channel]
    return view


def _check(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 (B, 3, S, S)"
        )
    if images.shape[2] != images.shape[3]:
        raise InputError(f"images are {tuple(images.shape[2:])} px; store them square")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(
            f"mean {tuple(mean)} and std {tuple(std)}: give three numbers each, std above zero"
        )


def render_levels(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe) -> Tensor:
    """Render a view before normalisation by the plain path, the specification.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images.
        recipe: says which operations can occur.

    Returns:
        ``(B, 3, size, size)`` float32, whole levels 0 to 255.
    """
    levels = geometry.crop_resize_flip(images.to(torch.float32), parameters, recipe.size)
    if recipe.has_affine:
        levels = geometry.affine(levels, parameters)
    if recipe.has_jitter:
        jittered = colour.colour_jitter(levels, parameters, recipe.hue > 0)
        levels = _choose(parameters.jitter, jittered, levels)
    if recipe.grayscale:
        levels = _choose(parameters.grayscale, colour.grayscale(levels), levels)
    if recipe.blur:
        blurred = geometry.gaussian_blur(levels, parameters.sigma, recipe.blur_radius)
        levels = _choose(parameters.blur, blurred, levels)
    if recipe.solarize:
        solarized = colour.solarize(levels, parameters.threshold)
        levels = _choose(parameters.solarize, solarized, levels)
    if recipe.equalize:
        levels = _choose(parameters.equalize, colour.equalize(levels), levels)
    return levels


def _choose(chosen: Tensor, changed: Tensor, levels: Tensor) -> Tensor:
    return torch.where(colour.per_image(chosen), changed, levels)


def _render_on_cpu(
    images: Tensor,
    parameters: ViewParameters,
    recipe: ViewRecipe,
    factor: list[float],
    offset: list[float],
    view: Tensor,
) -> None:
    """Fill ``view`` with what :func:`render_levels` gives, normalised; piece by piece."""
    scale, shift = torch.tensor(factor), torch.tensor(offset)

    def work(rows: slice) -> None:
        with torch.autocast("cpu", enabled=False):
            in_place.render_into(
                view[rows], images[rows], parameters.rows(rows), recipe, scale, shift
            )

    for_each_piece(len(images), recipe.size**2, work)
