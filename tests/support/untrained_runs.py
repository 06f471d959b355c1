"""Run folders with random weights, and image files, made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from crkd.config.load import load_config
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo

SIZE = 16
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def untrained_run(
    folder: Path,
    *settings: str,
    known: Sequence[str] = ("cat", "dog"),
    novel: Sequence[str] = ("novel-0", "novel-1", "novel-2"),
) -> RunFolder:
    """A finished run with two heads, of which the second is the chosen one."""
    shape = Architecture(
        "resnet8",
        SIZE,
        num_known=len(known),
        num_novel=len(novel),
        num_heads=2,
        hidden=8,
        projection=4,
    )
    run = RunFolder.create(folder)
    run.write_config(load_config("digits", list(settings), {}))
    names = [*known, *novel]
    kinds = ["known"] * len(known) + ["novel"] * len(novel)
    info = RunInfo(
        kind="discovered" if novel else "supervised",
        status="complete",
        dataset="folder",
        split={"name": "folders", "fingerprint": "", "known": ""},
        classes=[
            ClassInfo(i, name, kind)
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ],
        preprocessing={"image_size": SIZE, "mean": list(MEAN), "std": list(STD)},
        architecture=shape.plain(),
        chosen_head=1 if novel else None,
        seed=0,
        provenance={},
    )
    info.model_sha256 = run.write_model(build_network(shape, seed=3).state_dict(), {})
    run.write_info(info)
    return run


def noise(seed: int, side: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def save_noise(path: Path, seed: int, side: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, side)).save(path)
    return path
