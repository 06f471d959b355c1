"""From stored images and drawn parameters to the normalised views a network reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.augment import colour, geometry
from crkd.data.augment.draws import ViewParameters, draw
from crkd.data.augment.recipe import ViewRecipe


def make_view(
    images: Tensor,
    recipe: ViewRecipe,
    *,
    seed: int,
    epoch: Tensor | int,
    image_id: Tensor,
    view: int,
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
        epoch: number of the pass over the data, a Python or a 0-d device integer.
        image_id: ``(B,)`` int64 on the device of ``images``.
        view: number of the view within the step.
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
        InputError: the images are not square uint8 RGB.
    """
    levels = render_levels(images, parameters, recipe)
    return normalise(levels, mean, std, dtype, channels_last)


def render_levels(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe) -> Tensor:
    """Render the view before normalisation: ``(B, 3, size, size)`` float32 levels 0 to 255."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 (B, 3, S, S)"
        )
    if images.shape[2] != images.shape[3]:
        raise InputError(f"stored images of {tuple(images.shape[2:])} px; store square ones")
    # Levels above 256 would lose digits in a half-precision product.
    with torch.autocast(images.device.type, enabled=False):
        return _levels(images, parameters, recipe)


def _levels(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe) -> Tensor:
    x = geometry.crop_resize_flip(images.to(torch.float32), parameters, recipe.size)
    if recipe.has_affine:
        x = geometry.affine(x, parameters)
    if recipe.has_jitter:
        x = _where(parameters.jitter, colour.colour_jitter, x, parameters)
    if recipe.grayscale:
        x = _where(parameters.grayscale, lambda v, _: colour.grayscale(v), x, parameters)
    if recipe.blur:
        x = _where(
            parameters.blur,
            lambda v, p: geometry.gaussian_blur(v, p.sigma, recipe.blur_radius),
            x,
            parameters,
        )
    if recipe.solarize:
        x = _where(
            parameters.solarize, lambda v, p: colour.solarize(v, p.threshold), x, parameters
        )
    if recipe.equalize:
        x = _where(parameters.equalize, lambda v, _: colour.equalize(v), x, parameters)
    return x


def _where(
    chosen: Tensor,
    operation: Callable[[Tensor, ViewParameters], Tensor],
    levels: Tensor,
    parameters: ViewParameters,
) -> Tensor:
    """Apply ``operation`` to the chosen images."""
    if levels.device.type == "cpu" and not torch.compiler.is_compiling():
        # Finding the rows costs nothing here; on a GPU it would make the host wait.
        index = chosen.nonzero().squeeze(1)
        if len(index):
            levels.index_copy_(0, index, operation(levels[index], parameters.rows(index)))
        return levels
    return torch.where(chosen.view(-1, 1, 1, 1), operation(levels, parameters), levels)


def normalise(
    levels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """Return ``(levels / 255 - mean) / std`` for ``(B, 3, h, w)`` levels."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(levels.shape, dtype=dtype, device=levels.device, memory_format=layout)
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        scaled = levels[:, channel] * (1.0 / (255.0 * spread)) - centre / spread
        out[:, channel] = scaled
    return out
