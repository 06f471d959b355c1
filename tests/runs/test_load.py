from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_image_run, open_run
from crkd.stages.discover.run import discover
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config

CPU = torch.device("cpu")


@pytest.fixture
def run(stage1: Path, tmp_path: Path) -> RunFolder:
    """A finished stage-1 run that the test may change."""
    return RunFolder(shutil.copytree(stage1, tmp_path / "stage1"))


def test_an_opened_run_gives_its_stored_predictions(stage1: Path, tmp_path: Path):
    run = discover(small_config(), tmp_path / "found", stage1)
    opened = open_run(run.path, CPU)
    assert opened.architecture.num_novel == 5
    data = prepare(opened.config, CPU)
    outputs = data.outputs(opened.network, data.subsets.test)
    stored = load_predictions(run.path / "predictions.parquet")
    np.testing.assert_array_equal(stored.joint_heads[:, stored.of("test")], outputs.joint)


def test_a_run_of_another_shape_is_refused(run: RunFolder):
    info = run.read_info()
    assert info.architecture is not None
    info.architecture["num_known"] = 6
    run.write_info(info)
    with pytest.raises(InputError):
        open_run(run.path, CPU)


def test_a_baseline_has_no_network_to_open(run: RunFolder):
    info = run.read_info()
    info.architecture = None
    run.write_info(info)
    with pytest.raises(InputError, match="no network"):
        open_run(run.path, CPU)


def test_a_run_on_vectors_takes_no_images(run: RunFolder):
    info = run.read_info()
    tensors = {"spaces.0.root": torch.tensor(False), "groups.0.space": torch.tensor(0)}
    shapes = {"spaces.0.mean": (4,), "spaces.0.projection": (4, 2), "groups.0.density": (2, 5)}
    shapes |= {"groups.0.density_bias": (5,), "groups.0.weights": (2, 5), "groups.0.biases": (5,)}
    tensors |= {name: torch.zeros(shape) for name, shape in shapes.items()}
    assert info.architecture is not None
    info.architecture |= {"backbone": "vectors", "image_size": 4}
    info.preprocessing["image_size"] = 4
    info.model_sha256 = run.write_model(tensors, {})
    run.write_info(info)
    assert open_run(run.path, CPU).network([torch.ones(3, 4)]).known_logits.shape == (1, 3, 5)
    with pytest.raises(InputError, match="is a discovery on feature vectors"):
        open_image_run(run.path, CPU)
