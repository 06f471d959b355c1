"""A data set from outside of crkd: scikit-learn's digits in another size and coloring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from crkd.data.datasets.base import Dataset
from crkd.data.sources.arrays import ArraySource

SIZE = 20
TRAINING = 300
TEST = 100


def build(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the first digits as dark ink on light paper; no file is needed."""
    del root, download
    bunch = load_digits()
    names = tuple(str(digit) for digit in range(10))
    images = np.stack([_paper(image) for image in bunch.images[: TRAINING + TEST]])
    labels = bunch.target[: TRAINING + TEST]
    pixels = images[:TRAINING].reshape(-1, 3) / 255
    mean, std = pixels.mean(axis=0).tolist(), pixels.std(axis=0).tolist()
    return Dataset(
        name="large-digits",
        train=ArraySource(images[:TRAINING], labels[:TRAINING], names, part="train"),
        test=ArraySource(images[TRAINING:], labels[TRAINING:], names, part="test"),
        class_names=names,
        image_size=SIZE,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def _paper(image: np.ndarray) -> np.ndarray:
    """Return one ``(8, 8)`` image of levels 0..16 as ``(20, 20, 3)`` uint8."""
    gray = Image.fromarray(np.rint(255 - image * (255 / 16)).astype(np.uint8))
    return np.asarray(gray.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB"))
