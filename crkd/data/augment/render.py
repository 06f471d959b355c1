"""Rendering of stored images and drawn parameters into normalized views."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from crkd.data.augment.parameters import ViewParameters, draw
from crkd.data.augment.plan import ViewPlan
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
    """Draw and render several views of B images; consecutive equal recipes form one batch.

    The result is that of :func:`make_view` for the views 0, 1, ..., with fewer operations.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        recipes: one per view.
        seed: seed of the run.
        epoch: epoch number: a Python integer, a 0-d device integer, or ``(B,)`` int64 if images
            are in different epochs.
        image_id: ``(B,)`` int64 on the device of ``images``.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise.
        dtype: dtype of the output.
        channels_last: whether the output has that memory format.

    Returns:
        the views, ``(B, 3, size, size)`` each.

    Raises:
        InputError: as :func:`make_view`.
    """
    plan = _plan_for(recipes, images.shape[-1], mean, std)
    groups = plan.draw_groups(seed=seed, epoch=epoch, image_id=image_id)
    return plan.render_groups(images, groups, dtype=dtype, channels_last=channels_last)


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
        recipe: recipe of the view.
        seed: seed of the run.
        epoch: epoch number: a Python integer, a 0-d device integer, or ``(B,)`` int64 if images
            are in different epochs.
        image_id: ``(B,)`` int64 on the device of ``images``.
        view: index of the view within the step, one for all images or ``(B,)`` int64.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise.
        dtype: dtype of the output.
        channels_last: whether the output has that memory format.

    Returns:
        ``(B, 3, size, size)`` normalized view.

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
    """Render the view of given parameters; the same parameters give the same view.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images and ``recipe``, in the same order.
        recipe: recipe of the view; it determines the possible operations.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise, above zero.
        dtype: dtype of the output.
        channels_last: whether the output has that memory format.

    Returns:
        ``(B, 3, size, size)`` normalized view.

    Raises:
        InputError: the images are not square uint8 RGB, or ``mean`` or ``std`` are invalid.
    """
    plan = _plan_for((recipe,), images.shape[-1], mean, std)
    (view,) = plan.render_groups(images, (parameters,), dtype=dtype, channels_last=channels_last)
    return view


def render_levels(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe) -> Tensor:
    """Render a view before normalization by the plain path, which defines the result.

    Args:
        images: ``(B, 3, S, S)`` uint8.
        parameters: drawn for these images.
        recipe: recipe of the view; it determines the possible operations.

    Returns:
        ``(B, 3, size, size)`` float32, whole levels 0 to 255.
    """
    plan = _plan_for((recipe,), images.shape[-1], (0.0,) * 3, (1.0,) * 3)
    return plan.levels(images, (parameters,))[0]


def _plan_for(
    recipes: Sequence[ViewRecipe], stored_size: int, mean: Sequence[float], std: Sequence[float]
) -> ViewPlan:
    """Return a plan of these views, reusing that of a recent call.

    Raises:
        InputError: as :class:`ViewPlan`.
    """
    # Code that torch.compile traces does not use the cache.
    make = _new_plan if torch.compiler.is_compiling() else _kept_plan
    return make(tuple(recipes), stored_size, tuple(mean), tuple(std))


def _new_plan(
    recipes: tuple[ViewRecipe, ...],
    stored_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> ViewPlan:
    return ViewPlan(recipes, stored_size=stored_size, mean=mean, std=std)


_kept_plan = functools.lru_cache(maxsize=16)(_new_plan)
