"""Preview picture of images and their augmented views."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.render import make_view


def view_sheet(
    images: Tensor,
    recipes: Mapping[str, ViewRecipe],
    path: Path | str,
    *,
    seed: int = 0,
    epochs: int = 3,
    title: str = "",
) -> None:
    """Write a picture with a row per image: the original, then each recipe over a few epochs.

    Args:
        images: ``(B, 3, S, S)`` uint8; about a dozen rows are easy to view.
        recipes: recipes by the name to print above; the views are numbered in this order.
        path: file to write, PNG by its suffix.
        seed: seed of the draws.
        epochs: number of views of each recipe.
        title: title of the picture.
    """
    from matplotlib.figure import Figure

    ids = torch.arange(len(images), device=images.device)
    columns: list[tuple[str, Tensor]] = [("stored", images / 255.0)]
    for view, (name, recipe) in enumerate(recipes.items()):
        for epoch in range(epochs):
            shown = make_view(
                images,
                recipe,
                seed=seed,
                epoch=epoch,
                image_id=ids,
                view=view,
                mean=(0.0, 0.0, 0.0),
                std=(1.0, 1.0, 1.0),
            )
            columns.append((name if epoch == 0 else "", shown))
    figure = Figure(figsize=(1.1 * len(columns), 1.1 * len(images) + 0.6), layout="compressed")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (name, shown) in enumerate(columns):
        axes[0, column].set_title(name, fontsize=9, loc="left")
        for row, image in enumerate(shown.permute(0, 2, 3, 1).cpu()):
            axes[row, column].imshow(image.numpy(), interpolation="nearest")
            axes[row, column].axis("off")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
