"""Herbarium-19: pressed plants of 683 species, in the resized copy that was published."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crkd.data.datasets.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Dataset, find_folder
from crkd.data.sources.class_folders import class_folders

NAME: Final = "herbarium-19"
CLASSES: Final = 683
IMAGES: Final = (34_225, 2_679)
LAYOUTS: Final = (
    "small-train/CLASS/*.jpg and small-validation/CLASS/*.jpg in herbarium-19/, the unpacked "
    "small-train.tar.gz and small-validation.tar.gz of "
    "https://github.com/visipedia/herbarium_comp (2019)"
)


@DATASETS.register(NAME)
def build_herbarium_19(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the 683 species with 34,225 training and 2,679 validation images as test images.

    The folders are numbers. Labels follow their names sorted as text ("0", "1", "10", ...), as in
    the code of generalized category discovery.

    Source: K. C. Tan et al., "The Herbarium Challenge 2019 Dataset", 2019.
    """
    folder = find_folder(NAME, LAYOUTS, root, "herbarium-19", "herbarium_19")
    names = tuple(sorted(map(str, range(CLASSES))))
    train = class_folders(folder / "small-train", names)
    # The publisher does not say that each species has a validation image.
    test = class_folders(folder / "small-validation", names, complete=False)
    note = ""
    if (len(train), len(test)) != IMAGES:
        note = (
            f"{NAME} has {len(train):,} training and {len(test):,} validation images here, as "
            f"published {IMAGES[0]:,} and {IMAGES[1]:,}"
        )
    return Dataset(NAME, train, test, names, 224, IMAGENET_MEAN, IMAGENET_STD, note)
