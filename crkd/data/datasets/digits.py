"""Handwritten digits embedded in scikit-learn: 1,797 images without a file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from crkd.core.shuffle import stable_shuffle
from crkd.data.datasets.base import DATASETS, Dataset
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import Labels, Pixels

SIZE: Final = 16
SPLIT_SEED: Final = 0
# Mean and standard deviation of the 1,438 training images as built below.
MEAN: Final = 0.30502050
STD: Final = 0.31831908


@DATASETS.register("digits")
def build_digits(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the digits as 16-pixel RGB images, in a fixed 80/20 split.

    The 8 x 8 images with 17 gray levels are doubled bilinearly, because pixels enlarged as blocks
    would give rotated or cropped views artificial edges. One fifth of every class, drawn with
    seed 0, is the test set, so the split is stratified and the same everywhere.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998
    (its test set, as scikit-learn ships it).
    """
    images, labels = _digits()
    is_test = _held_out(labels)
    names = tuple(str(digit) for digit in range(10))
    return Dataset(
        name="digits",
        train=ArraySource(images[~is_test], labels[~is_test], names, part="train"),
        test=ArraySource(images[is_test], labels[is_test], names, part="test"),
        class_names=names,
        image_size=SIZE,
        mean=(MEAN, MEAN, MEAN),
        std=(STD, STD, STD),
    )


@functools.cache
def _digits() -> tuple[Pixels, Labels]:
    """Return all images and labels; enlarging them takes longer than a short training."""
    from sklearn.datasets import load_digits  # slow to import, and rarely needed

    bunch = load_digits()
    images = np.stack([_enlarge(image) for image in bunch.images])
    return images, np.asarray(bunch.target, dtype=np.int64)


def _enlarge(image: np.ndarray) -> Pixels:
    """Return one ``(8, 8)`` image of levels 0..16 as ``(16, 16, 3)`` uint8."""
    gray = Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8))
    return np.asarray(gray.resize((SIZE, SIZE), Image.Resampling.BILINEAR).convert("RGB"))


def _held_out(labels: Labels) -> np.ndarray:
    """Return which images are test images, ``(N,)`` bool: one fifth of every class, rounded."""
    is_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        order = stable_shuffle(len(members), SPLIT_SEED, stream=digit)
        is_test[members[order[: round(len(members) / 5)]]] = True
    return is_test
