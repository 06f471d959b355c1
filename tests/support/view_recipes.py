"""Recipes, channel statistics and images of the tests of augmented views."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from crkd.data.augment import ViewRecipe

NORMALIZED = {"mean": (0.507, 0.487, 0.441), "std": (0.267, 0.256, 0.276)}
"""Statistics of CIFAR-100."""
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Statistics with which a view holds levels from 0 to 255."""

EVERYTHING = ViewRecipe(
    size=24,
    crop="either",
    scale=(0.3, 1.0),
    rotation=20.0,
    shift=0.1,
    zoom=(0.8, 1.2),
    shear=10.0,
    jitter=0.7,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.3,
    blur=0.4,
    solarize=0.3,
    solarize_threshold=(0.0, 256.0),
    equalize=0.3,
)
"""Every operation at once."""
NO_HUE = dataclasses.replace(EVERYTHING, hue=0.0)


def blobs(count: int, side: int, *, seed: int) -> Tensor:
    """Return smooth colored blobs over noise, ``(count, 3, side, side)`` of uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 300 - 20
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    smooth += torch.randn(smooth.shape, generator=generator) * 8
    return smooth.clamp(0, 255).to(torch.uint8)
