from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.load import open_image_run, open_run
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config

CPU = torch.device("cpu")


def test_an_opened_run_answers_as_its_predictions_say(tmp_path: Path):
    config = small_config()
    stage1 = pretrain(config, tmp_path / "stage1")
    run = discover(config, tmp_path / "found", stage1.path)
    opened = open_run(run.path, CPU)
    assert opened.architecture.num_novel == 5
    data = prepare(opened.config, CPU)
    answers = data.outputs(opened.network, data.subsets.test)
    stored = load_predictions(run.path / "predictions.parquet")
    np.testing.assert_array_equal(stored.joint_heads[:, stored.of("test")], answers.joint)


def test_a_run_of_another_shape_is_refused(tmp_path: Path):
    run = pretrain(small_config(), tmp_path / "stage1")
    info = run.read_info()
    assert info.architecture is not None
    info.architecture["num_known"] = 6
    run.write_info(info)
    with pytest.raises(InputError):
        open_run(run.path, CPU)


def test_a_baseline_has_no_network_to_open(tmp_path: Path):
    run = pretrain(small_config(), tmp_path / "stage1")
    info = run.read_info()
    info.architecture = None
    run.write_info(info)
    with pytest.raises(InputError, match="no network"):
        open_run(run.path, CPU)


def test_a_run_on_features_does_not_answer_for_images(tmp_path: Path):
    run = pretrain(small_config(), tmp_path / "stage1")
    config = dataclasses.replace(run.read_config(), dataset="features")
    run.write_config(config)
    with pytest.raises(InputError, match="precomputed features"):
        open_image_run(run.path, CPU)
