"""Images for a watch with the example run: digits fit a class, checkerboards do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crkd.data.datasets.base import load_dataset
from crkd.inference.watching.state import PREDICTIONS


def save_digits(folder: Path, count: int) -> list[Path]:
    """Save the first test digits."""
    test = load_dataset("digits", None).test
    assert test is not None
    return [_save(folder / f"digit{n}.png", test.read(n)) for n in range(count)]


def save_checks(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Save noisy checkerboards."""
    draw = np.random.default_rng(seed)
    board = np.indices((8, 8)).sum(axis=0) % 2 * 255.0
    images = [board + draw.normal(0, 30, board.shape) for _ in range(count)]
    return [
        _save(folder / f"check{seed}-{n}.png", image.clip(0, 255).astype(np.uint8))
        for n, image in enumerate(images)
    ]


def predicted(state: Path) -> list[dict[str, Any]]:
    """Return the lines of the table in a state folder."""
    return [json.loads(line) for line in (state / PREDICTIONS).read_text().splitlines()]


def _save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
