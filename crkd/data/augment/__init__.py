"""Batched image augmentation on CPU and GPU: recipes, random parameters, rendering."""

from crkd.data.augment.parameters import ViewParameters, draw
from crkd.data.augment.plan import ViewPlan
from crkd.data.augment.presets import named_recipe, recipe_names
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.render import make_view, make_views, render

__all__ = [
    "ViewParameters",
    "ViewPlan",
    "ViewRecipe",
    "draw",
    "make_view",
    "make_views",
    "named_recipe",
    "recipe_names",
    "render",
]
