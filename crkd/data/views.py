"""Views of a run's images: their recipes and number, drawn and rendered in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from crkd.data.augment.plan import ViewPlan
from crkd.data.augment.recipe import ViewRecipe

Render = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Views:
    """Number and recipes of the views of a batch, large crops first.

    Attributes:
        recipes: one per view.
        num_large: number of large crops.
        mean: mean of each channel, for images scaled to [0, 1].
        std: standard deviation of each channel, likewise.
        compiled: whether views on a GPU are rendered by code from torch.compile.
    """

    recipes: tuple[ViewRecipe, ...]
    num_large: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    compiled: bool = False
    _plans: dict[int, ViewPlan] = field(default_factory=dict, init=False, repr=False, compare=False)
    _renders: dict[int, Render] = field(default_factory=dict, init=False, repr=False, compare=False)

    def prepare(self, stored_size: int, device: torch.device) -> None:
        """Create the constants on a device, before a step is captured, compiled or counted."""
        self._plan(stored_size).prepare(device)

    def draw(self, stored_size: int, *, seed: int, epoch: Tensor, image_id: Tensor) -> Tensor:
        """Return the random parameters of all views of n images, ``(n, F)`` float32.

        Args:
            stored_size: side of the stored images in pixels.
            seed: seed of the run.
            epoch: ``(n,)`` int64, epoch in which each image is shown.
            image_id: ``(n,)`` int64.
        """
        return self._plan(stored_size).draw(seed=seed, epoch=epoch, image_id=image_id)

    def render(
        self,
        images: Tensor,
        *,
        seed: int,
        epoch: Tensor,
        image_id: Tensor,
        drawn: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return one ``(B, 3, size, size)`` tensor per view of uint8 ``images``.

        Args:
            images: ``(B, 3, S, S)`` uint8.
            seed: seed of the run.
            epoch: ``(B,)`` int64.
            image_id: ``(B,)`` int64.
            drawn: result of :meth:`draw` for these images; drawn here if None.
        """
        size = images.shape[-1]
        if drawn is None:
            drawn = self.draw(size, seed=seed, epoch=epoch, image_id=image_id)
        plan = self._plan(size)
        if not (self.compiled and images.is_cuda):
            return plan.render(images, drawn, channels_last=images.is_cuda)
        if size not in self._renders:
            self._renders[size] = torch.compile(plan.render, dynamic=False)
        return self._renders[size](images, drawn, channels_last=True)

    def _plan(self, stored_size: int) -> ViewPlan:
        # Stored here and not in a cache that evicts: a captured step reads the plan's constants.
        if stored_size not in self._plans:
            self._plans[stored_size] = ViewPlan(
                self.recipes, stored_size=stored_size, mean=self.mean, std=self.std
            )
        return self._plans[stored_size]
