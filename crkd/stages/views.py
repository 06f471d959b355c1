"""From the configuration's views to recipes of the augmentation."""

from __future__ import annotations

import dataclasses

from crkd.config.blocks import ViewConfig
from crkd.config.check import convert, field_types
from crkd.config.schema import Config
from crkd.core.errors import InputError, listed
from crkd.data.augment.presets import named_recipe
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.views import Views
from crkd.stages.run_data import RunData


def recipe(view: ViewConfig, image_size: int) -> ViewRecipe:
    """Return the recipe that a view of the configuration means for images of ``image_size``.

    Raises:
        InputError: the recipe's name or an option is unknown, or an option is out of range.
    """
    size = max(1, round(image_size * view.size_share))
    base = named_recipe(view.recipe, size)
    types = field_types(ViewRecipe)
    changes = {}
    for name, value in view.options.items():
        if name not in types:
            raise InputError(
                f"view recipe {view.recipe!r} has no option {name!r}; "
                f"its options are: {listed(sorted(types), 40)}"
            )
        changes[name] = convert(types[name], value, f"view option {name}")
    return dataclasses.replace(base, **changes)


def pretraining_views(config: Config, data: RunData) -> Views:
    """Return the views of stage 1."""
    one = recipe(config.pretrain.view, data.image_size)
    number = config.pretrain.num_views
    return _views(config, data, (one,) * number, number)


def discovery_views(config: Config, data: RunData) -> Views:
    """Return the large and small views of stage 2."""
    settings = config.discover
    large = (recipe(settings.large, data.image_size),) * settings.num_large
    small = (recipe(settings.small, data.image_size),) * settings.num_small
    return _views(config, data, large + small, settings.num_large)


def distillation_views(config: Config, data: RunData) -> Views:
    """Return the configured views of a student, or those of stage 1.

    Raises:
        InputError: the views differ in size, so that their feature maps would not fit together.
    """
    if not config.distill.views:
        return pretraining_views(config, data)
    recipes = tuple(recipe(view, data.image_size) for view in config.distill.views)
    sizes = sorted({one.size for one in recipes})
    if len(sizes) > 1:
        raise InputError(
            f"distill.views has views of {', '.join(map(str, sizes))} px; give all of them one "
            "size_share"
        )
    return _views(config, data, recipes, len(recipes))


def _views(config: Config, data: RunData, recipes: tuple[ViewRecipe, ...], num_large: int) -> Views:
    dataset = data.dataset
    return Views(recipes, num_large, dataset.mean, dataset.std, config.loop.compile)
