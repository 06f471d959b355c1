"""Known digits among the unlabeled images: found, named, left out of the training, never lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.stages.discover.known_filter import find_known
from crkd.stages.discover.parent import open_parent
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from tests.support.small_runs import same, scramble_hidden_labels, small_config

KNOWN = range(5)
MIXED = ("discover.mixed=true", "data.validation_fraction=0.2")


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


def rows_of(run: RunFolder) -> list[dict[str, str]]:
    with (run.path / "looks-known.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digit_of(image_id: str) -> int:
    return int(Path(image_id).name.split("-")[0])


def test_the_known_share_of_a_mixture_is_found_and_no_image_is_lost(
    mixture: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    config, stage1 = mixture
    run = discover(config, tmp_path / "run", stage1.path)
    rows = rows_of(run)
    table = load_predictions(run.path / "predictions.parquet")
    kept, aside = list(table.id[table.of("train")]), [row["image"] for row in rows]
    every = {f"novel/{file.name}" for file in Path(config.data.novel or "").iterdir()}
    assert sorted([*kept, *aside]) == sorted(every)
    truth = sum(digit_of(name) in KNOWN for name in every) / len(every)
    assert len(rows) / len(every) == pytest.approx(truth, abs=0.08)
    right = [row for row in rows if digit_of(row["image"]) in KNOWN]
    assert len(right) > 0.8 * len(rows)
    named = [int(row["class_name"]) == digit_of(row["image"]) for row in right]
    assert np.mean(named) > 0.8
    scores = [float(row["novelty_score"]) for row in rows]
    assert scores == sorted(scores)
    notes = run.read_info().notes
    assert any(f"{len(rows)} unlabeled images that look like known" in note for note in notes)
    assert any("on hidden known classes the AUROC of this filter is" in note for note in notes)
    measured = json.loads((run.path / "known-filter.json").read_text())
    assert measured["known_share"] == pytest.approx(len(rows) / len(every), abs=0.002)
    assert 0.75 < measured["hidden_known_classes"]["auroc"] <= 1


def test_scrambled_hidden_labels_set_the_same_images_aside(
    stage1_held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(*MIXED)
    honest = discover(config, tmp_path / "honest", stage1_held_out)
    scramble_hidden_labels(monkeypatch)
    scrambled = discover(config, tmp_path / "scrambled", stage1_held_out)
    assert rows_of(honest) == rows_of(scrambled) != []
    first, second = (run.read_model(run.read_info())[0] for run in (honest, scrambled))
    assert same(first, second)


def test_hidden_labels_stay_with_their_images(stage1_held_out: Path) -> None:
    device = torch.device("cpu")
    plain = open_parent(small_config(*MIXED[1:]), stage1_held_out, device)
    mixed = open_parent(small_config(*MIXED), stage1_held_out, device)
    assert plain.aside is None
    assert mixed.aside is not None
    parts = plain.data.subsets
    label_of = dict(zip(parts.unlabeled.ids, parts.hidden.unlabeled(), strict=True))
    kept = mixed.data.subsets
    assert len(kept.unlabeled) + len(mixed.aside.ids) == len(parts.unlabeled)
    expected = [label_of[name] for name in kept.unlabeled.ids]
    assert kept.hidden.unlabeled().tolist() == expected
    store = mixed.data.store(kept.unlabeled)
    assert store is not None
    assert len(store) == len(kept.unlabeled)


def test_a_folder_of_known_images_alone_is_refused(
    mixture: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    config, stage1 = mixture
    (tmp_path / "few").mkdir()
    # The image that looks most like a known class.
    aside = open_parent(config, stage1.path, torch.device("cpu")).aside
    assert aside is not None
    surest = Path(aside.ids[int(np.argmin(aside.scores))]).name
    source = Path(config.data.novel or "") / surest
    (tmp_path / "few" / surest).write_bytes(source.read_bytes())
    only = load_config(
        flags={"data": {"novel": str(tmp_path / "few")}, "discover": {"num_novel": 1}}, base=config
    )
    with pytest.raises(InputError, match="all 1 unlabeled images look like known classes"):
        discover(only, tmp_path / "run", stage1.path)
    assert not (tmp_path / "run").exists()


def test_without_held_out_images_nothing_is_set_aside(stage1: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are 0 of 0 classes; train stage 1 with a higher"):
        discover(small_config("discover.mixed=true"), tmp_path / "run", stage1)
    assert not (tmp_path / "run").exists()


def test_classes_that_are_not_separated_are_refused() -> None:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((300, 16)).astype(np.float32)
    with pytest.raises(InputError, match=r"hard to tell apart .* the AUROC is 0\.\d\d"):
        find_known(rows, np.arange(300) % 5, rows + 0.1, seed=0)
