"""Tiny-ImageNet in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS, Dataset, find_folder
from crkd.data.sources.files import FileSource, image_files, paths_below, read_columns, read_lines

LAYOUTS: Final = (
    "the unpacked tiny-imagenet-200.zip of http://cs231n.stanford.edu/tiny-imagenet-200.zip: "
    "tiny-imagenet-200/ with wnids.txt, train/WNID/images/*.JPEG, val/images/*.JPEG and "
    "val/val_annotations.txt"
)


@DATASETS.register("tiny-imagenet")
def build_tiny_imagenet(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the 200 classes with 500 training and 50 validation images each, 64 pixels.

    The validation images are the test set, because the test labels were never published. Classes
    are in the order of their WordNet ids, which are their names.
    """
    folder = find_folder("tiny-imagenet", LAYOUTS, root, "tiny-imagenet-200", "tiny-imagenet")
    names = sorted(line.strip() for line in read_lines(folder / "wnids.txt") if line.strip())
    return Dataset(
        name="tiny-imagenet",
        train=_train_part(folder, names),
        test=_validation_part(folder, names),
        class_names=tuple(names),
        image_size=64,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
    )


def _train_part(folder: Path, names: list[str]) -> FileSource:
    paths: list[Path] = []
    labels: list[int] = []
    images = paths_below(folder / "train", names, folder / "wnids.txt")
    for label, place in enumerate(images):
        found = list(image_files(place / "images"))
        paths += found
        labels += [label] * len(found)
    ids = [f"train/{path.parent.parent.name}/{path.name}" for path in paths]
    return FileSource(paths, labels, names, ids)


def _validation_part(folder: Path, names: list[str]) -> FileSource:
    listing = folder / "val" / "val_annotations.txt"
    rows = read_columns(listing, 3, "\t")
    number = {name: label for label, name in enumerate(names)}
    unknown = next((wnid for _, wnid, _ in rows if wnid not in number), None)
    if unknown is not None:
        raise InputError(
            f"{str(listing)!r} names the class {unknown!r}, which wnids.txt does not; fetch the "
            "set again"
        )
    paths = paths_below(folder / "val" / "images", (name for name, _, _ in rows), listing)
    labels = np.array([number[wnid] for _, wnid, _ in rows], dtype=np.int64)
    return FileSource(paths, labels, names, [f"val/{name}" for name, _, _ in rows])
