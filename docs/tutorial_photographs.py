"""Image folders of the tutorial on photographs, from CIFAR-100.

``python docs/tutorial_photographs.py photos`` writes ``photos/known`` with a folder for each of
four classes, ``photos/new`` with unlabeled images of two others, and ``photos/later`` with other
unlabeled images of all six.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from crkd.data.datasets import load_dataset

SIDE = 64
"""Pixels."""
KNOWN = ("bicycle", "castle", "sunflower", "tiger")
NEW = ("elephant", "orange")
IMAGES = 30
"""Images of each class in the folders ``known`` and ``new``."""
LATER = 5
"""Further images of each class, in the folder ``later``."""


def main(folder: Path) -> None:
    """Write the three folders below ``folder``."""
    images = load_dataset("cifar100").train
    labels = np.asarray(images.labels)
    for name in (*KNOWN, *NEW):
        rows = np.flatnonzero(labels == images.class_names.index(name))[: IMAGES + LATER]
        for number, row in enumerate(rows.tolist()):
            place = folder / "later" if number >= IMAGES else folder / "new"
            if number < IMAGES and name in KNOWN:
                place = folder / "known" / name
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(images.read(row)).resize((SIDE, SIDE))
            # The name of a file says nothing about its class.
            picture.save(place / f"{row:05}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
