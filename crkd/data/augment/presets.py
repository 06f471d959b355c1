"""Named view recipes of the released code.

Sources: the public code of rKD (`data/augmentations/resnet_transform.py`, `vit_transform.py`) and
UNO (`utils/transforms.py`). Operations, order and probabilities are the same; rKD draws the
solarize threshold uniformly from [0, 256) for each image.
"""

from __future__ import annotations

from collections.abc import Callable

from crkd.core.errors import InputError
from crkd.data.augment.recipe import ViewRecipe


def large_view(size: int = 32) -> ViewRecipe:
    """The large crop of rKD for small images (CIFAR); the padding scales with the side."""
    return ViewRecipe(
        size=size,
        crop="either",
        padding=max(1, size // 8),
        scale=(0.5, 1.0),
        jitter=0.6,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        solarize=0.1,
        solarize_threshold=(0.0, 256.0),
        equalize=0.1,
    )


def small_view(size: int = 18) -> ViewRecipe:
    """The small crop of rKD for small images: 18 px, with large crops of 32 px."""
    return ViewRecipe(
        size=size,
        crop="resized",
        scale=(0.3, 0.8),
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        solarize=0.2,
        solarize_threshold=(0.0, 256.0),
        equalize=0.2,
    )


def pretraining_view(size: int = 32) -> ViewRecipe:
    """The view of UNO version 1 (50022c9) on CIFAR, for pretraining and discovery."""
    return ViewRecipe(
        size=size,
        crop="either",
        padding=max(1, size // 8),
        scale=(0.8, 1.0),
        jitter=0.5,
        brightness=0.3,
        contrast=0.3,
        saturation=0.15,
        hue=0.1,
        grayscale=0.1,
    )


def plain_view(size: int = 32) -> ViewRecipe:
    """Pad-and-crop and flip, the usual view for supervised training on CIFAR."""
    return ViewRecipe(size=size, crop="pad", padding=max(1, size // 8))


def evaluation_view(size: int = 32) -> ViewRecipe:
    """No randomness: the whole image, center-cropped if the stored image is larger."""
    return ViewRecipe(size=size, crop="none", flip=0.0)


def large_photo_view(size: int = 224) -> ViewRecipe:
    """The large crop of rKD for photographs (ImageNet)."""
    return ViewRecipe(
        size=size,
        crop="resized",
        scale=(0.5, 1.0),
        jitter=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=0.2,
        blur_sigma=(0.1, 2.0),
    )


def small_photo_view(size: int = 96) -> ViewRecipe:
    """The small crop of rKD for photographs (ImageNet)."""
    return ViewRecipe(
        size=size,
        crop="resized",
        scale=(0.08, 0.5),
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=0.5,
        blur_sigma=(0.1, 2.0),
    )


def fine_grained_view(size: int = 224) -> ViewRecipe:
    """The view of rKD's ViT: a random crop of the image stored at ``size / 0.875``, and flip."""
    return ViewRecipe(size=size, crop="pad", padding=0)


def digits_view(size: int = 32) -> ViewRecipe:
    """Strong geometric operations without a flip, because a mirrored digit is another shape."""
    return ViewRecipe(
        size=size,
        crop="none",
        flip=0.0,
        rotation=25.0,
        shift=0.15,
        zoom=(0.7, 1.3),
        shear=20.0,
    )


_RECIPES: dict[str, Callable[[int], ViewRecipe]] = {
    "large": large_view,
    "small": small_view,
    "pretraining": pretraining_view,
    "plain": plain_view,
    "evaluation": evaluation_view,
    "large-photo": large_photo_view,
    "small-photo": small_photo_view,
    "fine-grained": fine_grained_view,
    "digits": digits_view,
}


def recipe_names() -> list[str]:
    """Return the valid names of :func:`named_recipe`."""
    return list(_RECIPES)


def named_recipe(name: str, size: int) -> ViewRecipe:
    """Return the recipe called ``name`` for an output side of ``size`` pixels.

    Raises:
        InputError: there is no such recipe.

    >>> named_recipe("small", 18).scale
    (0.3, 0.8)
    """
    if name not in _RECIPES:
        raise InputError(f"unknown view recipe {name!r}; choose one of: {', '.join(_RECIPES)}")
    return _RECIPES[name](size)
