"""Own folders of unlabeled images, some of them of a known class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.data.datasets.base import load_dataset
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.stages.discover.parent import open_parent
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from tests.support.small_runs import same, scramble_hidden_labels, small_config

EACH = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits 0 to 2 are known; 1, 3 and 4 are in folders of their names among the unlabeled."""
    root = tmp_path_factory.mktemp("digits")
    source = load_dataset("digits").train
    for digit in range(5):
        rows = np.flatnonzero(source.labels == digit)[: 2 * EACH]
        parts = {"known": rows[:EACH]} if digit < 3 else {}
        parts |= {"novel": rows[EACH:]} if digit in (1, 3, 4) else {}
        for part, chosen in parts.items():
            place = root / part / str(digit)
            place.mkdir(parents=True)
            for row in chosen.tolist():
                Image.fromarray(source.read(row)).save(place / f"{row}.png")
    return root


def config_of(folders: Path, *, novel: bool = True) -> Config:
    data = {"known": str(folders / "known"), "image_size": 16}
    if novel:
        data["novel"] = str(folders / "novel")
    few = ("pretrain.batch_size=8", "discover.batch_size=16", "discover.mixed=true")
    return small_config(*few, dataset="folder", data=data)


@pytest.fixture(scope="module")
def stage1_of_folders(folders: Path) -> Path:
    """A stage 1 that has seen the folders of known classes alone."""
    return pretrain(config_of(folders, novel=False), folders / "stage-1").path


@pytest.fixture(scope="module")
def found(folders: Path, stage1_of_folders: Path) -> RunFolder:
    return discover(config_of(folders), folders / "honest", stage1_of_folders)


def test_a_folder_with_the_name_of_a_known_class_is_scored_as_that_class(found: RunFolder) -> None:
    table = load_predictions(found.path / "predictions.parquet")
    train = table.of("train")
    assert (table.num_known, table.num_novel) == (3, 2)
    assert list(table.class_names) == ["0", "1", "2", "3", "4"]
    folder = [int(name.split("/")[1]) for name in table.id[train]]
    assert table.label[train].tolist() == folder
    scores = found.read_metrics()["joint_hungarian"]["train"]
    assert scores["known"]["num_images"] == EACH
    assert scores["novel"]["num_images"] == 2 * EACH


def test_images_of_such_a_folder_are_unlabeled(folders: Path, stage1_of_folders: Path) -> None:
    subsets = open_parent(config_of(folders), stage1_of_folders, torch.device("cpu")).data.subsets
    labeled = [*subsets.known_train.ids, *subsets.known_val.ids]
    assert len(labeled) == 3 * EACH
    assert all(name.startswith("known/") for name in labeled)
    assert set(subsets.unlabeled.labels.tolist()) == {-1}


def test_scrambled_hidden_labels_change_nothing(
    found: RunFolder, folders: Path, stage1_of_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scramble_hidden_labels(monkeypatch)
    scrambled = discover(config_of(folders), folders / "scrambled", stage1_of_folders)
    weights = [load_file(run.path / "model.safetensors") for run in (found, scrambled)]
    assert same(*weights)
    assert found.read_info().chosen_head == scrambled.read_info().chosen_head
    tables = [load_predictions(run.path / "predictions.parquet") for run in (found, scrambled)]
    known = [table.label[table.of("train")] < 3 for table in tables]
    assert (known[0] != known[1]).any(), "labels of unlabeled known images must be scrambled too"
    np.testing.assert_array_equal(tables[0].joint_heads, tables[1].joint_heads)
