"""A small finished discovery that comes with the package, so that its use can be tried at once.

Five handwritten digits are known to it and five it found; a ResNet-8 of 16 px, distilled from
the discovery that ``docs/predict.md`` names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from crkd.core.errors import InputError
from crkd.data.datasets.base import load_dataset

RUN: Final = Path(__file__).with_name("example_run")
"""The run folder; nothing is ever written into it."""
PLACE: Final = Path("crkd-example")
"""Default output folder of commands on the example."""


def write_images(folder: Path) -> Path:
    """Write scikit-learn's digits that no training saw, one PNG file each; return the folder.

    The name contains the digit: ``7-0012.png`` is a seven.

    Args:
        folder: made where it is missing; files of the same names are replaced.

    Raises:
        InputError: the folder cannot be written.
    """
    test = load_dataset("digits", None).test
    assert test is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, label in enumerate(test.labels.tolist()):
            Image.fromarray(test.read(number)).save(folder / f"{label}-{number:04d}.png")
    except OSError as error:
        raise InputError(
            f"the example's images cannot be written to {folder} ({error.strerror}); name another "
            "place with --out"
        ) from None
    return folder
