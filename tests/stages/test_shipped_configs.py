"""Every shipped configuration trains one step of both stages, on made-up images of its shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.config.load import FOLDERS, load_config, shipped_configs
from crkd.data.datasets.base import Dataset
from crkd.data.loader import BatchLoader
from crkd.data.sources.arrays import ArraySource
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.models.backbones.build import build_backbone
from crkd.stages import results, run_data
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain

# Features have a run of their own, see test_feature_discovery.py.
NO_RECIPES = ("fine-grained", "features")
FILES = [
    file
    for folder in FOLDERS[:2]
    for file in shipped_configs(folder)
    if file.stem not in NO_RECIPES
]
HEAVY = {"cars", "aircraft", "imagenet-100", "herbarium-19"}  # the same recipe as cub, by "extends"
SMALLER = (
    "pretrain.epochs=1",
    "pretrain.batch_size=8",
    "discover.epochs=1",
    "discover.batch_size=8",
    "evaluation.kmeans_restarts=1",
    "evaluation.batch_size=256",
)


SMALL_VIT = "timm:vit_tiny_patch16_224"


def test_the_large_backbone_is_the_small_one_in_wide() -> None:
    """The replacement in the step below has the same parts, both frozen and trained."""
    model = load_config("cub").model
    with torch.device("meta"):
        large, small = (
            build_backbone(name, image_size=32, trained_blocks=model.trained_blocks)
            for name in (model.backbone, SMALL_VIT)
        )
    assert large.num_features == 768
    trained = [
        {name: (p.ndim, p.requires_grad) for name, p in network.named_parameters()}
        for network in (large, small)
    ]
    assert trained[0] == trained[1]
    assert any(p.requires_grad for p in large.parameters())


def made_up(dataset: str, split: ClassSplit, size: int) -> Dataset:
    """Return two images a class, each class with a color of its own."""
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(len(split.class_names)), 2)
    colors = generator.integers(0, 256, (len(split.class_names), 1, 1, 3))
    noise = generator.integers(-20, 20, (len(labels), size, size, 3))
    pixels = np.clip(colors[labels] + noise, 0, 255).astype(np.uint8)
    parts = [ArraySource(pixels, labels, split.class_names, part=p) for p in ("train", "test")]
    gray = (0.5, 0.5, 0.5)
    return Dataset(dataset, parts[0], parts[1], split.class_names, size, gray, gray)


@pytest.mark.slow
@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in HEAVY], ids=lambda f: f.stem)
def test_one_step_of_both_stages(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_folder = file.stem == "folder"
    flags = {"data": {"known": "x", "novel": "y"}} if is_folder else {}
    given = {} if is_folder else {"dataset": load_config(str(file)).dataset}
    name = file.stem if file.stem in ("cub", "folder") else given["dataset"]
    # A ViT-B at 224 px would take minutes; four patches and a ViT-Ti show the same wiring.
    size = ["data.image_size=32", f"model.backbone={SMALL_VIT}"] if name == "cub" else []
    if is_folder:
        size = ["model.backbone=resnet8", "model.hidden=64"]
    if file.stem == "published-cifar":
        size = ["model={backbone: resnet8, hidden: 64}", "split=10-10"]
    config = load_config(str(file), [*SMALLER, *size], {**flags, "dataset": name})
    split = load_split("digits") if is_folder else load_split(name, config.split)
    dataset = made_up(name, split, 16 if name == "digits" else 32)
    monkeypatch.setattr(run_data, "load_images", lambda *a, **k: (dataset, split))
    monkeypatch.setattr(ClassSplit, "check", lambda *a: None)
    # The picture of 200 classes takes longer than both stages; tests/evaluation draws pictures.
    monkeypatch.setattr(results, "draw_confusion", lambda *a: None)
    honest = BatchLoader.__init__

    def one_step(self, *arguments, **options):  # type: ignore[no-untyped-def]
        honest(self, *arguments, **options)
        self.steps_per_epoch = 1

    monkeypatch.setattr(BatchLoader, "__init__", one_step)
    stage1 = pretrain(config, tmp_path / "pretrain")
    run = discover(config, tmp_path / "discover", stage1.path)
    line = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(line["loss"])
    assert run.read_metrics()["task_aware"]["train"]["novel"]["acc"] is not None
