from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.commands.main import run_verb

HOSTILE = '<img src=x onerror="document.title=1">.png'
COLOURS = ((230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 60))


def save_colour(path: Path, colour: tuple[int, int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-25, 26, (18, 18, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A discovery of four classes in own images, and the folder of its unlabelled images."""
    place = tmp_path_factory.mktemp("own images")
    for number in range(16):
        grey = (250, 250, 250) if number % 2 else (10, 10, 10)
        save_colour(place / "known" / "ab"[number % 2] / f"{number}.png", grey, number)
    for number in range(48):
        name = HOSTILE if number == 7 else f"=photo {number}.png"
        save_colour(place / "new photos" / name, COLOURS[number % 4], 100 + number)
    settings = {
        "model.backbone": "resnet8",
        "model.hidden": 16,
        "model.projection": 8,
        "model.num_heads": 3,
        "pretrain.epochs": 1,
        "pretrain.batch_size": 8,
        "discover.epochs": 6,
        "discover.batch_size": 24,
        "discover.optimiser.lr": 0.05,
        "discover.optimiser.warmup_epochs": 0.5,
        "evaluation.kmeans_restarts": 1,
        "data.validation_fraction": 0.2,
        "loop.log_every": 1,
    }
    flags = [f"--set={key}={value}" for key, value in settings.items()]
    known, novel, out = place / "known", place / "new photos", place / "run"
    where = ["--known", str(known), "--novel", str(novel), "--image-size", "16", "--out", str(out)]
    assert run_verb("discover", [*where, "--num-novel", "4", "--pretrain", *flags]) == 0
    return out, novel
