"""Plans of all views of a training step: drawn for many steps at once, rendered as one batch.

Drawing takes hundreds of small operations for any number of images. It depends only on seed,
epoch and image. It is therefore done for many steps at a time, together with everything else that
depends only on random parameters. Rendering reads the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.augment import packing
from crkd.data.augment.parameters import ViewParameters, draw_from
from crkd.data.augment.plain import PlainView
from crkd.data.augment.plain_path import PlainPath
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.render_cpu import render_in_place
from crkd.data.augment.words import random_words


class _Group(NamedTuple):
    """Consecutive equal recipes, rendered as one batch.

    Attributes:
        plain: their plain path.
        first: index of the first view.
        views: number of views.
        inputs: first column of their plain-path inputs.
        packed: first column of their packed parameters.
    """

    plain: PlainView
    first: int
    views: int
    inputs: int
    packed: int


class ViewPlan:
    """Draws and renders the views of a step.

    A row of drawn parameters holds, for each group of equal recipes, the inputs of the plain path
    and then the parameters. Each number is stored for all views of the group in order.

    Args:
        recipes: one per view, large crops and small ones; consecutive equal recipes are rendered
            as one batch.
        stored_size: side of the stored square images in pixels.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise, above zero.

    Raises:
        InputError: a recipe cannot crop images of that size, or ``mean`` or ``std`` are invalid.
    """

    def __init__(
        self,
        recipes: Sequence[ViewRecipe],
        *,
        stored_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.recipes = tuple(recipes)
        self.stored_size = stored_size
        self._groups: list[_Group] = []
        column = 0
        for recipe, first, views in _runs(self.recipes):
            recipe.check_fits(stored_size)
            plain = PlainView(recipe, stored_size)
            packed = column + views * plain.width
            self._groups.append(_Group(plain, first, views, column, packed))
            column = packed + views * packing.WIDTH
        self._columns = column
        self._path = PlainPath([group.plain for group in self._groups], mean, std)

    def prepare(self, device: torch.device) -> None:
        """Create the constants of the plain path on a device; :meth:`draw` does so on every GPU.

        Compiled code on a CPU renders faster after it.
        """
        self._path.prepare(device)

    def draw(self, *, seed: int, epoch: Tensor, image_id: Tensor) -> Tensor:
        """Draw all random parameters of the views of n images.

        View v of an image has the parameters that :func:`crkd.data.augment.draw` gives for it.

        Args:
            seed: seed of the run.
            epoch: ``(n,)`` int64, epoch in which each image is shown.
            image_id: ``(n,)`` int64 on the same device; n may cover many steps.

        Returns:
            ``(n, F)`` float32, a row per image, for :meth:`render` and :meth:`parameters`.
        """
        if image_id.device.type != "cpu":
            # Create them before a step is captured or compiled.
            self.prepare(image_id.device)
        groups = self.draw_groups(seed=seed, epoch=epoch, image_id=image_id)
        # Without views there is nothing to draw.
        blocks = [image_id.new_empty(0, dtype=torch.float32)]
        for inputs, parameters in zip(self._inputs(groups), groups, strict=True):
            blocks += [inputs.flatten(), packing.pack(parameters).flatten()]
        return torch.cat(blocks).view(self._columns, len(image_id)).t().contiguous()

    def draw_groups(
        self, *, seed: int, epoch: Tensor | int, image_id: Tensor
    ) -> list[ViewParameters]:
        """Draw the parameters of each group of V equal recipes, ``(V * n,)`` view after view.

        Args:
            seed: seed of the run.
            epoch: a number, 0-d or ``(n,)`` int64.
            image_id: ``(n,)`` int64.
        """
        count, views = len(image_id), len(self.recipes)
        number = torch.arange(views, device=image_id.device)
        words = random_words(
            self.recipes,
            seed=seed,
            epoch=epoch.repeat(views) if isinstance(epoch, Tensor) and epoch.ndim else epoch,
            image_id=image_id.repeat(views),
            view=number.unsqueeze(1).expand(views, count).reshape(-1),
        )
        return [
            draw_from(
                words.rows(group.first * count, (group.first + group.views) * count),
                group.plain.recipe,
                self.stored_size,
            )
            for group in self._groups
        ]

    def parameters(self, drawn: Tensor, view: int) -> ViewParameters:
        """Return the parameters of one view.

        Args:
            drawn: ``(n, F)`` from :meth:`draw`.
            view: index of the view.

        Returns:
            the parameters of n images, as :func:`crkd.data.augment.draw` gives them.
        """
        for group in self._groups:
            if group.first <= view < group.first + group.views:
                first = group.packed + view - group.first
                stop = group.packed + group.views * packing.WIDTH
                return packing.unpack(drawn[:, first : stop : group.views].t())
        raise IndexError(f"view {view} of a plan of {len(self.recipes)}")

    def render(
        self,
        images: Tensor,
        drawn: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> tuple[Tensor, ...]:
        """Render the views of B images: in place on a CPU, otherwise by the plain path.

        Args:
            images: ``(B, 3, S, S)`` uint8.
            drawn: ``(B, F)`` float32, the rows of these images from :meth:`draw`.
            dtype: dtype of the output.
            channels_last: whether the output has that memory format.

        Returns:
            the views, ``(B, 3, size, size)`` each, normalized.

        Raises:
            InputError: the images are not square uint8 RGB of the planned size, or ``drawn`` does
                not belong to them.
        """
        self._check(images)
        if drawn.shape != (len(images), self._columns):
            raise InputError(
                f"drawn parameters are {tuple(drawn.shape)}; these images and views need "
                f"{(len(images), self._columns)} from the same plan"
            )
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            groups = [self._unpacked(drawn, group) for group in self._groups]
            return self._render_in_place(images, groups, dtype, channels_last)
        return self.render_plain(images, drawn, dtype=dtype, channels_last=channels_last)

    def render_plain(
        self,
        images: Tensor,
        drawn: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> tuple[Tensor, ...]:
        """Render as :meth:`render` by the plain path on any device, without checking the inputs."""
        columns = drawn.t().contiguous()
        inputs = [
            columns[group.inputs : group.packed].view(group.plain.width, -1)
            for group in self._groups
        ]
        return self._render_plain(images, inputs, dtype, channels_last)

    def render_groups(
        self,
        images: Tensor,
        groups: Sequence[ViewParameters],
        *,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> tuple[Tensor, ...]:
        """Render as :meth:`render` with the parameters of :meth:`draw_groups`."""
        self._check(images)
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._render_in_place(images, groups, dtype, channels_last)
        return self._render_plain(images, self._inputs(groups), dtype, channels_last)

    def levels(self, images: Tensor, groups: Sequence[ViewParameters]) -> list[Tensor]:
        """Return the views before normalization by the plain path, which defines the result.

        Args:
            images: ``(B, 3, S, S)`` uint8.
            groups: parameters as :meth:`draw_groups` gives them.

        Returns:
            ``(V * B, 3, size, size)`` float32 for each group, whole levels 0 to 255.
        """
        return self._path.levels(images, self._inputs(groups))

    def _unpacked(self, drawn: Tensor, group: _Group) -> ViewParameters:
        stop = group.packed + group.views * packing.WIDTH
        columns = drawn[:, group.packed : stop].t()
        return packing.unpack(columns.reshape(packing.WIDTH, -1))

    def _inputs(self, groups: Sequence[ViewParameters]) -> list[Tensor]:
        return [
            group.plain.inputs(parameters)
            for group, parameters in zip(self._groups, groups, strict=True)
        ]

    def _render_plain(
        self, images: Tensor, inputs: Sequence[Tensor], dtype: torch.dtype, channels_last: bool
    ) -> tuple[Tensor, ...]:
        batches = self._path.render(images, inputs, dtype, channels_last)
        return tuple(
            view
            for group, batch in zip(self._groups, batches, strict=True)
            for view in batch.chunk(group.views)
        )

    def _render_in_place(
        self,
        images: Tensor,
        groups: Sequence[ViewParameters],
        dtype: torch.dtype,
        channels_last: bool,
    ) -> tuple[Tensor, ...]:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        views: list[Tensor] = []
        # Reused memory must not be created as an inference tensor.
        with torch.inference_mode(False), torch.no_grad():
            scale, shift = (
                torch.tensor(values).view(3, 1, 1)
                for values in (self._path.scale, self._path.shift)
            )
            for group, parameters in zip(self._groups, groups, strict=True):
                recipe = group.plain.recipe
                shape = (group.views * len(images), 3, recipe.size, recipe.size)
                view = torch.empty(shape, dtype=dtype, memory_format=layout)
                repeated = images.repeat(group.views, 1, 1, 1)
                render_in_place(view, repeated, parameters, recipe, scale, shift)
                views += view.chunk(group.views)
        return tuple(views)

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 (B, 3, S, S)"
            )
        if images.shape[2] != images.shape[3]:
            raise InputError(f"images are {tuple(images.shape[2:])} px; store them square")
        if images.shape[2] != self.stored_size:
            raise InputError(
                f"images are {images.shape[2]} px, and these views were planned for "
                f"{self.stored_size} px; plan them for the size of the images"
            )


def _runs(recipes: Sequence[ViewRecipe]) -> list[tuple[ViewRecipe, int, int]]:
    """Return each recipe with its first view and the number of consecutive repetitions.

    itertools.groupby is not used, because torch.compile cannot trace it over recipes.
    """
    runs: list[tuple[ViewRecipe, int, int]] = []
    for number, recipe in enumerate(recipes):
        if runs and runs[-1][0] == recipe:
            runs[-1] = (recipe, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((recipe, number, 1))
    return runs
