"""Known digits among the unlabeled images: found, trained on and never lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.models.network import freeze
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_image_run
from crkd.stages.discover.known_filter import find_known, find_known_images
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config

KNOWN = range(5)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    """A stage-1 run on 0 to 4, and unlabeled digits of which three in eight are such."""
    place = tmp_path_factory.mktemp("mixture")
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        old = label in KNOWN
        if old and number < 900:
            folder = place / "known" / str(label)
        elif number < (1250 if old else 600):
            folder = place / "novel"
        else:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((image * 15.9).astype(np.uint8)).resize((16, 16))
        picture.save(folder / f"{label}-{number}.png")
    config = small_config(
        "pretrain.epochs=6",
        "pretrain.batch_size=64",
        "pretrain.optimizer.warmup_epochs=1",
        "data.validation_fraction=0.2",
        "discover.mixed=true",
        "discover.num_novel=5",
        dataset="folder",
        data={"known": str(place / "known"), "novel": str(place / "novel"), "image_size": 16},
        model={"backbone": "resnet8"},
    )
    return config, pretrain(config, place / "stage1")


def digit_of(image_id: str) -> int:
    return int(Path(image_id).name.split("-")[0])


def test_the_known_share_of_a_mixture_is_found(mixture: tuple[Config, RunFolder]) -> None:
    config, stage1 = mixture
    opened = open_image_run(stage1.path, CPU)
    data = prepare(config, CPU)
    found = find_known_images(freeze(opened.network), data)
    known = np.array([digit_of(name) in KNOWN for name in data.subsets.unlabeled.ids])
    looks_known = found.check.looks_known
    assert looks_known.mean() == pytest.approx(known.mean(), abs=0.08)
    assert found.check.share == pytest.approx(looks_known.mean(), abs=0.002)
    assert known[looks_known].mean() > 0.8
    assert 0.75 < found.separation.auroc <= 1
    assert "on hidden known classes the AUROC of this filter is" in found.sentence


def test_a_folder_of_known_and_novel_images_is_trained_on_and_scored_as_a_whole(
    mixture: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    config, stage1 = mixture
    run = discover(config, tmp_path / "run", stage1.path)
    table = load_predictions(run.path / "predictions.parquet")
    every = {f"novel/{file.name}" for file in Path(config.data.novel or "").iterdir()}
    assert set(table.id[table.of("train")]) == every
    assert any("50 % of the images in known classes" in n for n in run.read_info().notes)
    digits = np.array([digit_of(name) for name in table.id[table.of("train")]])
    predicted = table.joint_heads[run.read_info().chosen_head, table.of("train")]
    known = np.isin(digits, KNOWN)
    # The names of known classes are digits, and no label of these images was seen.
    assert (predicted[known] == digits[known]).mean() > 0.5


def test_a_class_without_held_out_images_does_not_move_the_others() -> None:
    """The hidden classes of the measurement are left out of the images that shape the space."""
    draw = np.random.default_rng(0)
    centers = 4 * draw.standard_normal((9, 24))
    shaping = np.repeat(np.arange(9), 30)
    held = np.repeat(np.arange(9), 12)
    rows, others = (
        (centers[labels] + draw.standard_normal((len(labels), 24))).astype(np.float32)
        for labels in (shaping, held)
    )
    unlabeled = np.concatenate([others[::2] + np.float32(0.01), 9 + others[::2]])
    # Class 3 has images that shaped the space, and none that were held out.
    there = held != 3
    renumbered = np.array([0, 1, 2, 8, 3, 4, 5, 6, 7])
    found, same = (
        find_known(others[there], numbers[held[there]], unlabeled, seed=0, shaping=(rows, shaped))
        for numbers, shaped in ((np.arange(9), shaping), (renumbered, renumbered[shaping]))
    )
    assert found.separation == same.separation
    np.testing.assert_array_equal(found.check.looks_known, same.check.looks_known)


def test_classes_that_are_not_separated_are_refused() -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((300, 16)).astype(np.float32)
    with pytest.raises(InputError, match=r"hard to tell apart .* the AUROC is 0\.\d\d"):
        find_known(rows, np.arange(300) % 5, rows + 0.1, seed=0)
