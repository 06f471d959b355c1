"""A stage 1 that starts from a file of weights says so."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from crkd.models.backbones.build import build_backbone
from crkd.stages.pretrain.run import pretrain
from tests.support.small_runs import small_config


def test_the_run_names_the_weights_and_what_was_left_out(tmp_path: Path) -> None:
    tensors = build_backbone("resnet8", image_size=8, seed=5).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({**tensors, "fc.bias": torch.zeros(10)}, path)
    config = small_config("model.backbone=resnet8", f"model.weights={path}", "data.subset=0.1")
    notes = pretrain(config, tmp_path / "run").read_info().notes
    expected = f"{len(tensors)} weight tensors from {path}; classifier weights left out: fc.bias"
    assert f"the backbone starts from {expected}" in notes
