"""The plain path of one recipe: operations on whole batches, the same on every device.

The plain path is used on GPUs and in compiled code. On a GPU every operation costs a kernel launch,
so there are few operations, and everything that depends only on random parameters is computed
together with the draws. The path does not copy to or from the host, does not wait for the device,
and has shapes that do not depend on data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crkd.data.augment import color, geometry
from crkd.data.augment.parameters import ViewParameters
from crkd.data.augment.recipe import ViewRecipe
from crkd.data.augment.windows import Windows


class Constants(NamedTuple):
    """Constants of the plain path of one recipe on one device.

    Attributes:
        weights: table of resampling weights, None if they are computed for each batch.
        taps: pixel positions of the blur, None without a blur.
        half_level: offset that rounds mean levels.
        coefficients: coefficients of color operations, shared by all recipes.
    """

    weights: Tensor | None
    taps: Tensor | None
    half_level: Tensor
    coefficients: color.Coefficients


class PlainView:
    """The plain path of one recipe for stored images of one size.

    Args:
        recipe: recipe of the views.
        stored_size: side of the stored images in pixels.
    """

    def __init__(self, recipe: ViewRecipe, stored_size: int) -> None:
        self.recipe = recipe
        self.windows = Windows.of(recipe, stored_size)
        sizes = {
            "window": self.windows.inputs,
            "affine": 6 if recipe.has_affine else 0,
            "jitter": (20 if recipe.hue > 0 else 18) if recipe.has_jitter else 0,
            "grayscale": int(recipe.grayscale > 0),
            "blur": 2 * recipe.blur_radius + 1 if recipe.blur else 0,
            "solarize": int(recipe.solarize > 0),
            "equalize": int(recipe.equalize > 0),
        }
        self._sizes = {name: size for name, size in sizes.items() if size}

    @property
    def width(self) -> int:
        """Number of values that the plain path reads for each view."""
        return sum(self._sizes.values())

    def inputs(self, parameters: ViewParameters) -> Tensor:
        """Return the inputs of the plain path for B views, ``(width, B)`` float32."""
        recipe, p = self.recipe, parameters
        parts = [self.windows.describe(p)]
        if recipe.has_affine:
            parts.append(geometry.affine_maps(p, recipe.size).t())
        if recipe.has_jitter:
            parts.append(color.jitter_inputs(p, recipe.hue > 0))
        if recipe.grayscale:
            parts.append(p.grayscale.to(torch.float32).unsqueeze(0))
        if recipe.blur:
            blurred = geometry.blur_kernels(p.sigma, recipe.blur_radius)
            place = torch.arange(blurred.shape[1], device=blurred.device)
            sharp = (place == recipe.blur_radius).to(torch.float32)
            parts.append(torch.where(p.blur.unsqueeze(1), blurred, sharp).t())
        if recipe.solarize:
            parts.append(torch.where(p.solarize, p.threshold, 256.0).unsqueeze(0))
        if recipe.equalize:
            parts.append(p.equalize.to(torch.float32).mul(recipe.size**2).unsqueeze(0))
        return torch.cat(parts)

    def constants(self, coefficients: color.Coefficients) -> Constants:
        """Return the constants on the device of ``coefficients``."""
        recipe, device = self.recipe, coefficients.luma.device
        return Constants(
            self.windows.table(device) if self.windows.tabulated else None,
            geometry.blur_taps(recipe.blur_radius, recipe.size, device) if recipe.blur else None,
            color.rounding(recipe.size**2, device),
            coefficients,
        )

    def unequalized(
        self, images: Tensor, inputs: Tensor, constants: Constants
    ) -> tuple[Tensor, Tensor | None]:
        """Apply all operations except the equalization.

        Args:
            images: ``(B, 3, S, S)`` uint8.
            inputs: ``(width, V * B)`` float32, of V views of these images.
            constants: on the device of ``images``.

        Returns:
            levels: ``(V * B, 3, size, size)`` float32, whole levels 0 to 255.
            pixels: ``(V * B, 1, 1, 1)``, number of pixels to equalize; None without equalization.
        """
        recipe = self.recipe
        parts = torch.split(inputs.view(*inputs.shape, 1, 1, 1), list(self._sizes.values()))
        given = dict(zip(self._sizes, parts, strict=True))
        described = given["window"].flatten(1)
        weights = self.windows.weights(described, constants.weights)
        levels = geometry.crop_resize_flip(images, weights, recipe.size)
        if recipe.has_affine:
            levels = geometry.affine(levels, given["affine"].flatten(1).t())
        if recipe.has_jitter:
            levels = color.color_jitter(
                levels, given["jitter"], constants.half_level, constants.coefficients
            )
        if recipe.grayscale:
            gray = color.grayscale(levels, constants.coefficients)
            levels = torch.where(given["grayscale"][0] > 0, gray, levels)
        if constants.taps is not None:
            kernels = given["blur"].flatten(1).t().contiguous()
            levels = geometry.gaussian_blur(levels, kernels, constants.taps)
        if recipe.solarize:
            levels = color.solarize(levels, given["solarize"][0])
        return levels, given["equalize"][0] if recipe.equalize else None
