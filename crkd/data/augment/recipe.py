"""View recipe: the random operations of a view and their strengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from crkd.core.errors import InputError

Crop = Literal["none", "pad", "resized", "either"]


@dataclass(frozen=True)
class ViewRecipe:
    """The random operations of one view, in the order in which they are applied.

    The operations are crop, flip, affine map, color jitter, grayscale, blur, solarize, equalize.
    The defaults disable an operation. Levels are those of 8-bit images.

    Attributes:
        size: side of the square output in pixels.
        crop: ``"none"`` shows the whole image (center crop if the stored image is larger,
            bilinear enlargement if it is smaller); ``"pad"`` crops a random window of the
            zero-padded image; ``"resized"`` is the random resized crop; ``"either"`` is one of
            the last two with equal probability.
        padding: black pixels on each side for ``"pad"``.
        scale: area of the resized crop as a fraction of the image, in (0, 1].
        ratio: width over height of the resized crop, drawn uniformly in its logarithm.
        flip: probability of a horizontal mirror image.
        rotation: largest angle in degrees, drawn from ``[-rotation, rotation]``.
        shift: largest translation along each axis as a fraction of ``size``, in [0, 1].
        zoom: range of the enlargement about the center.
        shear: largest shear along the x axis in degrees, in [0, 90).
        jitter: probability of the color jitter.
        brightness: factor drawn from ``[max(0, 1 - brightness), 1 + brightness]``.
        contrast: as ``brightness``.
        saturation: as ``brightness``.
        hue: shift drawn from ``[-hue, hue]`` turns of the color circle, in [0, 0.5].
        grayscale: probability of a gray image.
        blur: probability of a Gaussian blur.
        blur_sigma: range of the blur's standard deviation in output pixels.
        solarize: probability of inverting every level at or above a threshold.
        solarize_threshold: range of that threshold in levels, in [0, 256].
        equalize: probability of a histogram equalization of each channel.
    """

    size: int
    crop: Crop = "none"
    padding: int = 4
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotation: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: tuple[float, float] = (128.0, 128.0)
    equalize: float = 0.0

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            InputError: a value is out of the range of its attribute.
        """
        for name in ("scale", "ratio", "zoom", "blur_sigma", "solarize_threshold"):
            # YAML gives a list, which would make the frozen recipe unhashable.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.crop not in get_args(Crop):
            raise InputError(
                f"view crop {self.crop!r} is unknown; choose one of: {', '.join(get_args(Crop))}"
            )
        _within("size", self.size, 1, 4096)
        _within("padding", self.padding, 0, 4096)
        for name in ("flip", "jitter", "grayscale", "blur", "solarize", "equalize", "shift"):
            _within(name, getattr(self, name), 0.0, 1.0)
        for name in ("brightness", "contrast", "saturation"):
            _within(name, getattr(self, name), 0.0, 100.0)
        _within("hue", self.hue, 0.0, 0.5)
        _within("rotation", self.rotation, 0.0, 180.0)
        _within("shear", self.shear, 0.0, 89.0)
        _ordered("scale", self.scale, 1e-4, 1.0)
        _ordered("ratio", self.ratio, 1e-2, 1e2)
        _ordered("zoom", self.zoom, 1e-2, 1e2)
        _ordered("blur_sigma", self.blur_sigma, 1e-2, 1e2)
        _ordered("solarize_threshold", self.solarize_threshold, 0.0, 256.0)

    @property
    def has_affine(self) -> bool:
        """Whether any view of this recipe is rotated, shifted, zoomed or sheared."""
        return bool(self.rotation or self.shift or self.shear) or self.zoom != (1.0, 1.0)

    @property
    def has_jitter(self) -> bool:
        """Whether any view of this recipe changes its colors by jitter."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return self.jitter > 0 and any(strengths)

    @property
    def blur_radius(self) -> int:
        """Pixels on each side that the blur kernel reaches: three standard deviations."""
        return min(math.ceil(3 * self.blur_sigma[1]), self.size - 1)

    def check_fits(self, stored_size: int) -> None:
        """Check that images of ``stored_size`` pixels can be cropped by this recipe.

        Raises:
            InputError: the window of a pad-and-crop is larger than the padded image.
        """
        if self.crop in ("pad", "either") and self.size > stored_size + 2 * self.padding:
            raise InputError(
                f"view size {self.size} exceeds the stored images' {stored_size} px plus padding "
                f"{self.padding} on each side; lower size, raise padding or store larger images"
            )


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (isinstance(value, (int, float)) and low <= value <= high):
        raise InputError(f"view {name} = {value!r} is out of range; give {low} to {high}")


def _ordered(name: str, pair: tuple[float, float], low: float, high: float) -> None:
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise InputError(
            f"view {name} = {pair!r} is not a range; give two rising numbers in {low} to {high}"
        )
