"""Folders of noisy images of one color for each class, and their discovery on vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from crkd.commands.main import main

KNOWN = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
NEW = {"yellow": (220, 210, 40), "white": (240, 240, 240)}
EACH = 8
SIDE = 24


def save_colors(
    colors: dict[str, tuple[int, int, int]], place: Path, *, nested: bool, seed: int = 0
) -> None:
    """Write eight images of 24 px for each color, nested in a folder for each class or flat."""
    generator = np.random.default_rng(seed)
    for name, color in colors.items():
        folder = place / name if nested else place
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            noise = generator.normal(0, 12, (SIDE, SIDE, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}-{number}.png")


def color_folders(root: Path, *, nested: bool = False) -> None:
    """Write ``known``, with a folder for each class, and ``novel``, flat unless ``nested``."""
    save_colors(KNOWN, root / "known", nested=True)
    save_colors(NEW, root / "novel", nested=nested, seed=1)


def discover_colors(root: Path) -> Path:
    """Return the run of ``crkd discover --known DIR --novel DIR`` on the folders of ``root``."""
    out = root / "runs" / "first"
    arguments = ["--known", str(root / "known"), "--novel", str(root / "novel")]
    arguments += ["--num-novel", "2", "--image-size", "64", "--runtime", "torch"]
    assert main(["discover", *arguments, "--out", str(out)]) == 0
    return out
