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

Statistics = tuple[float, float, float]


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


def pretraining_views(config: Config, image_size: int, mean: Statistics, std: Statistics) -> Views:
    """Return the views of stage 1."""
    one = recipe(config.pretrain.view, image_size)
    number = config.pretrain.num_views
    return Views((one,) * number, number, mean, std, config.loop.compile)


def discovery_views(config: Config, image_size: int, mean: Statistics, std: Statistics) -> Views:
    """Return the large and small views of stage 2."""
    settings = config.discover
    large = (recipe(settings.large, image_size),) * settings.num_large
    small = (recipe(settings.small, image_size),) * settings.num_small
    return Views(large + small, settings.num_large, mean, std, config.loop.compile)
