"""Three files of small vectors for the kept runs: ``python tests/runs/kept/vectors.py FOLDER``.

The same numbers on every machine: three known classes, two novel ones, and one of a later step.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FILES = {"known": (0, 1, 2), "novel": (3, 4), "later": (5,)}
CENTERS = 8 * np.eye(6, 8)


def write_vectors(folder: Path) -> None:
    """Write ``known.npz`` (with labels), ``novel.npz`` and ``later.npz``: 16 vectors a class."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, classes) in enumerate(FILES.items()):
        labels = np.repeat(classes, 16)
        noise = np.random.default_rng(number).normal(size=(len(labels), 8))
        arrays = {
            "features": (CENTERS[labels] + noise).astype(np.float32),
            "id": [f"{name}-{row}" for row in range(len(labels))],
        }
        if name == "known":
            arrays["label"] = [f"known-{label}" for label in labels]
        np.savez(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    write_vectors(Path(sys.argv[1]))
