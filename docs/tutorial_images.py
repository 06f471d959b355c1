"""Image folders of the tutorial, from the handwritten digits of scikit-learn.

``python docs/tutorial_images.py photos`` writes ``photos/known`` with a folder for each of five
digits, ``photos/new`` with unlabeled images of three others, and ``photos/later`` with other
unlabeled images of all eight.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

KNOWN = ("zero", "one", "two", "three", "four")
NOVEL = (5, 6, 7)
IMAGES = 60
"""Images of each digit; training then takes less than a minute on a CPU."""
LATER = 10
"""Number of these images in the folder ``later``."""


def main(folder: Path) -> None:
    """Write the three folders below ``folder``."""
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    count = dict.fromkeys(range(10), 0)
    for number, (image, digit) in enumerate(zip(pixels, digits.target.tolist(), strict=True)):
        unused = digit >= len(KNOWN) and digit not in NOVEL
        if unused or count[digit] == IMAGES:
            continue
        count[digit] += 1
        place = "later" if count[digit] <= LATER else "new"
        if place == "new" and digit < len(KNOWN):
            place = f"known/{KNOWN[digit]}"
        file = folder / place / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR).save(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
