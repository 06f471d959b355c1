"""A student of a discovery on vectors in the mixed setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crkd.commands.main import main
from crkd.config.load import load_config
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.stages.distill.run import distill
from tests.support.color_folders import EACH, KNOWN, NEW, color_folders, save_colors
from tests.support.small_runs import same, scramble_hidden_labels

pytestmark = pytest.mark.usefixtures("few_steps")

SMALL = [
    "distill.student=resnet8",
    "distill.epochs=2",
    "distill.batch_size=16",
    "distill.views=[{recipe: plain}]",
    "loop.loggers=[]",
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Unlabeled images of two new colors and, in a folder with its name, of a known one."""
    root = tmp_path_factory.mktemp("colors")
    color_folders(root, nested=True)
    for name, color in KNOWN.items():
        save_colors({name: color}, root / "known" / name / "more", nested=False, seed=2)
    save_colors({"green": KNOWN["green"]}, root / "novel", nested=True, seed=3)
    out = root / "run"
    command = ["--known", str(root / "known"), "--novel", str(root / "novel"), "--num-novel", "2"]
    command += ["--mixed", "--image-size", "64", "--runtime", "torch", "--out", str(out)]
    assert main(["discover", *command]) == 0
    return RunFolder(out)


def test_unlabeled_images_of_a_known_class_are_scored_as_that_class(
    teacher: RunFolder, tmp_path: Path
) -> None:
    config = load_config(settings=SMALL, base=teacher.read_config())
    student = distill(config, tmp_path / "student", teacher.path)
    ours, theirs = (load_predictions(r.path / "predictions.parquet") for r in (student, teacher))
    assert list(ours.class_names) == list(theirs.class_names) == [*sorted(KNOWN), *sorted(NEW)]
    train = ours.of("train")
    truth = dict(zip(theirs.id, theirs.label, strict=True))
    assert ours.label[train].tolist() == [truth[name] for name in ours.id[train]]
    assert np.bincount(ours.label[train]).tolist() == [0, EACH, 0, EACH, EACH]
    scores = student.read_metrics()["joint_hungarian"]["train"]
    assert scores["known"]["num_images"] == EACH
    assert scores["novel"]["num_images"] == 2 * EACH


def test_scrambled_hidden_labels_change_no_student(teacher: RunFolder, tmp_path: Path) -> None:
    config = load_config(settings=SMALL, base=teacher.read_config())
    with pytest.MonkeyPatch.context() as patch:
        runs = [distill(config, tmp_path / "honest", teacher.path)]
        scramble_hidden_labels(patch)
        runs.append(distill(config, tmp_path / "scrambled", teacher.path))
    weights: list[dict[str, torch.Tensor]] = [
        load_file(run.path / "model.safetensors") for run in runs
    ]
    assert same(*weights)
    tables = [load_predictions(run.path / "predictions.parquet") for run in runs]
    assert (tables[0].label != tables[1].label).any()
