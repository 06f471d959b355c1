from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.heads.prototype import PrototypeHead
from crkd.models.network import Network
from crkd.review.run_outputs import Evidence, gather
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunInfo
from crkd.stages.discover.parent import next_classes
from crkd.stages.results import finish_run
from crkd.stages.run_data import RunData, prepare
from crkd.training.session import begin_run
from tests.support.browser import chromium, opened
from tests.support.review_page import HOSTILE

COLORS = ((230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 60))
CPU = torch.device("cpu")


def save_color(path: Path, color: tuple[int, int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-25, 26, (18, 18, 3))
    Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def discovered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished discovery of four colors in own images, and the folder of its images.

    Nothing is trained: prototypes are at the mean of each color, so that the predictions are known.
    """
    place = tmp_path_factory.mktemp("own images")
    known, novel = place / "known", place / "new photos"
    for number in range(16):
        gray = (250, 250, 250) if number % 2 else (10, 10, 10)
        save_color(known / "ab"[number % 2] / f"{number}.png", gray, number)
    for number in range(48):
        name = HOSTILE if number == 7 else f"=photo {number}.png"
        # As many images of color n as 18, 14, 10, 6.
        color = int(np.searchsorted([18, 32, 42], number, side="right"))
        save_color(novel / name, COLORS[color], 1000 * color + number)
    settings = [
        "model.backbone=resnet8",
        "model.hidden=32",
        "model.projection=8",
        "discover.batch_size=24",
        "data.image_size=16",
        "data.validation_fraction=0.2",
        f"data.known={known}",
        f"data.novel={novel}",
    ]
    config = load_config(None, settings, {"dataset": "folder"})
    data = prepare(config, CPU)
    shape = Architecture(
        "resnet8", 16, num_known=2, num_novel=4, num_heads=3, hidden=32, projection=8
    )
    network = build_network(shape, seed=1).eval()
    prototypes_at_colors(network, data, config)
    classes = [ClassInfo(n, name, "known") for n, name in enumerate("ab")]
    info = RunInfo(
        kind="discovered",
        status="running",
        dataset="folder",
        split=data.split_entry(),
        classes=next_classes(classes, 4),
        preprocessing=data.preprocessing(),
        architecture=shape.plain(),
        chosen_head=None,
        seed=0,
        provenance={},
    )
    run = begin_run(place / "run", info, config, CPU, resume=False)
    rows = [{"step": n, "epoch": float(n), "loss": 1.0 / (n + 1)} for n in range(3)]
    (run.path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    finish_run(run, network, data, seconds=0.0, chosen_head=1)
    return run.path, novel


def prototypes_at_colors(network: Network, data: RunData, config: Config) -> None:
    """Move prototypes onto the colors, less what all images share; known ones are opposite."""
    heads, part = network.novel_heads, data.subsets.unlabeled
    assert heads is not None
    features = torch.from_numpy(data.outputs(network, part).features)
    pixels = np.stack([part.source.read(int(i)).mean((0, 1)) for i in part.indices])
    colors = np.linalg.norm(pixels[:, None] - np.array(COLORS), axis=-1).argmin(1)
    with torch.no_grad():
        mean = heads.projections(features).mean(dim=1)
        heads.projection_bias -= mean
        projected = heads.projections(features)
        for color in range(4):
            heads.prototypes[:, color] = projected[:, colors == color].mean(dim=1)
        heads.normalize_prototypes()
        known = network.known_head
        assert isinstance(known, PrototypeHead)
        spread = torch.randn(known.prototypes.shape, generator=torch.Generator().manual_seed(0))
        known.prototypes.copy_(F.normalize(spread - 3 * features.mean(0), dim=-1))


@pytest.fixture(scope="module")
def evidence(discovered: tuple[Path, Path]) -> Evidence:
    return gather(discovered[0], CPU)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for the pages of a module; each page has a storage of its own."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(discovered: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The review page of the run, which no test changes."""
    out = tmp_path_factory.mktemp("page") / "review.html"
    assert run_verb("review", [str(discovered[0]), "--out", str(out)]) == 0
    return out


@pytest.fixture
def page(written: Path, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A copy of the page, opened."""
    out = shutil.copy(written, tmp_path / "review.html")
    with opened(browser, out) as window:
        yield window
