"""CUB-200-2011 (birds) in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Dataset, find_folder
from crkd.data.sources.files import FileSource, paths_below, read_columns

LAYOUTS: Final = (
    "the unpacked CUB_200_2011.tgz of https://data.caltech.edu/records/65de6-vp158: "
    "CUB_200_2011/ with images/, images.txt, image_class_labels.txt, train_test_split.txt and "
    "classes.txt"
)


@DATASETS.register("cub")
def build_cub(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the 200 birds with 5,994 training and 5,794 test images.

    Source: C. Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011.
    """
    folder = find_folder("cub", LAYOUTS, root, "CUB_200_2011", "cub/CUB_200_2011", "cub")
    names = [name for _, name in read_columns(folder / "classes.txt", 2)]
    files = read_columns(folder / "images.txt", 2)
    labels = _column(folder / "image_class_labels.txt", files) - 1
    is_train = _column(folder / "train_test_split.txt", files) == 1
    paths = paths_below(folder / "images", (name for _, name in files), folder / "images.txt")
    train, test = (
        FileSource(
            [paths[row] for row in rows], labels[rows], names, [files[row][1] for row in rows]
        )
        for rows in (np.flatnonzero(is_train), np.flatnonzero(~is_train))
    )
    return Dataset("cub", train, test, tuple(names), 224, IMAGENET_MEAN, IMAGENET_STD)


def _column(file: Path, files: list[list[str]]) -> np.ndarray:
    """Return the numbers of a list with one line per image, in the order of ``images.txt``."""
    try:
        values = {image: int(value) for image, value in read_columns(file, 2)}
        return np.array([values[image] for image, _ in files], dtype=np.int64)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{str(file)!r} does not hold one number for each line of images.txt ({error}); fetch "
            "the set again"
        ) from error
