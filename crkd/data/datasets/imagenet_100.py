"""ImageNet-100: the hundred classes of ImageNet-1k in generalized category discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crkd.data.datasets.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Dataset, find_folder
from crkd.data.sources.class_folders import class_folders
from crkd.data.splits.class_split import load_split

NAME: Final = "imagenet-100"
LAYOUTS: Final = (
    "ImageNet-1k (ILSVRC 2012) of https://image-net.org: imagenet/train/WNID/*.JPEG and "
    "imagenet/val/WNID/*.JPEG, or the same two folders in ILSVRC/Data/CLS-LOC/ or imagenet-100/; "
    "only the folders of the hundred classes are read"
)


@DATASETS.register(NAME)
def build_imagenet_100(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the hundred classes, with the 50 validation images of each as test images.

    The shipped split lists the classes by their WordNet ids, which are the names of the folders.

    Source: S. Vaze et al., "Generalized Category Discovery", CVPR 2022.
    """
    places = ("imagenet-100", "imagenet", "ILSVRC/Data/CLS-LOC")
    folder = find_folder(NAME, LAYOUTS, root, *places)
    names = load_split(NAME).class_names
    train, test = (class_folders(folder / part, names) for part in ("train", "val"))
    return Dataset(NAME, train, test, names, 224, IMAGENET_MEAN, IMAGENET_STD)
