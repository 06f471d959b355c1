"""Estimating the number of classes from a run: its images, its statistics, no hidden label."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.runs.load import OpenedRun, open_run
from crkd.stages.discover.class_count import Estimate, Images, estimate_k, images_for
from crkd.stages.discover.precheck import precheck
from crkd.stages.run_data import RunData
from tests.support.small_runs import scramble_hidden_labels

pytestmark = pytest.mark.usefixtures("few_draws")

CPU = torch.device("cpu")
FAST = {"max_classes": 12, "seed": 0}


@pytest.fixture(scope="module")
def counted(few_draws: None, stage1: Path) -> Estimate:
    """The estimate on the run's own images."""
    return estimate_k(stage1, Images(), CPU, **FAST)


def images_of(folder: Path, digits: set[int], count: int) -> Path:
    pixels, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(np.isin(labels, list(digits)))[:count]
    folder.mkdir()
    for row in chosen:
        picture = (pixels[row].reshape(8, 8) * 15).astype(np.uint8)
        Image.fromarray(picture).resize((16, 16)).convert("RGB").save(folder / f"{row:04}.png")
    return folder


def test_the_runs_own_novel_images_anchored_by_its_known_ones(counted: Estimate) -> None:
    count = counted.count
    assert (counted.anchors, counted.num_unlabeled, count.num_probes) == ("images", 717, 5)
    assert 1 <= count.low <= count.estimate <= count.high <= 12
    assert count.low <= 5 <= count.high


def test_scrambled_hidden_labels_change_no_score(
    counted: Estimate, stage1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = counted.count
    scramble_hidden_labels(monkeypatch)
    changed = images_for(open_run(stage1, CPU), Images(), CPU).subsets.hidden.unlabeled()
    assert len(np.unique(changed)) == 5
    scrambled = estimate_k(stage1, Images(), CPU, **FAST).count
    assert (honest.estimate, honest.low, honest.high) == (
        scrambled.estimate,
        scrambled.low,
        scrambled.high,
    )
    for name in ("counts", "votes", "stability", "silhouette"):
        np.testing.assert_array_equal(
            getattr(honest.evidence, name), getattr(scrambled.evidence, name)
        )


def test_a_folder_of_images_anchored_by_statistics(stage1: Path, tmp_path: Path) -> None:
    novel = images_of(tmp_path / "novel", {5, 6, 7, 8, 9}, 200)
    result = estimate_k(stage1, Images(novel=str(novel)), CPU, max_classes=10)
    assert (result.anchors, result.num_unlabeled, result.count.num_probes) == (
        "statistics",
        200,
        5,
    )
    assert any("statistics" in note for note in result.notes)
    forgetful = tmp_path / "forgetful"
    shutil.copytree(stage1, forgetful)
    (forgetful / "replay.safetensors").unlink()
    alone = estimate_k(forgetful, Images(novel=str(novel)), CPU, max_classes=10)
    assert (alone.anchors, alone.count.evidence.votes) == ("none", None)
    assert any("weak evidence" in note for note in alone.notes)


def test_precheck_counts_known_images_in_an_unlabeled_folder(stage1: Path, tmp_path: Path) -> None:
    opened = open_run(stage1, CPU)
    looking_known = {}
    for name, digits in {"known": {0, 1, 2, 3, 4}, "novel": {5, 6, 7, 8, 9}}.items():
        folder = images_of(tmp_path / name, digits, 150)
        data = images_for(opened, Images(novel=str(folder)), CPU)
        result = precheck(opened.network, opened.run, data)
        assert len(result.check.scores) == 150
        assert f"{result.check.count} of 150 unlabeled images" in result.sentence
        looking_known[name] = result.check.count
    assert looking_known["known"] > looking_known["novel"]


def few_known(opened: OpenedRun, folder: Path, each: int) -> RunData:
    """Data of a step whose five known classes have so many images each, none of them held out."""
    data = images_for(opened, Images(novel=str(folder)), CPU)
    known = images_for(opened, Images(), CPU).subsets.known_train
    rows = np.sort(np.concatenate([np.flatnonzero(known.labels == k)[:each] for k in range(5)]))
    ids = [known.ids[row] for row in rows]
    some = Subset(known.source, known.indices[rows], known.labels[rows], ids)
    return dataclasses.replace(data, subsets=dataclasses.replace(data.subsets, known_train=some))


@pytest.mark.parametrize("each", [1, 7])
def test_a_precheck_with_few_images_left_takes_the_statistics(
    each: int, stage1: Path, tmp_path: Path
) -> None:
    opened = open_run(stage1, CPU)
    folder = images_of(tmp_path / "novel", {5, 6, 7}, 60)
    few = precheck(opened.network, opened.run, few_known(opened, folder, each))
    none = precheck(opened.network, opened.run, few_known(opened, folder, 0))
    assert few.calibrated_on == none.calibrated_on == "statistics"
    np.testing.assert_array_equal(few.check.scores, none.check.scores)
    words = f"{5 * each} images and no statistics are left .* --known DIR with at least 40 images"
    with pytest.raises(InputError, match=words):
        precheck(opened.network, None, few_known(opened, folder, each))


def test_a_precheck_with_enough_images_left_takes_half_of_them(
    stage1: Path, tmp_path: Path
) -> None:
    opened = open_run(stage1, CPU)
    folder = images_of(tmp_path / "novel", {5, 6, 7}, 60)
    found = precheck(opened.network, None, few_known(opened, folder, 8))
    assert found.calibrated_on == "training images"


@pytest.mark.parametrize(("held", "origin"), [(19, "training images"), (20, "held-out images")])
def test_a_precheck_with_few_held_out_images_takes_half_of_the_others(
    held: int, origin: str, stage1: Path, tmp_path: Path
) -> None:
    opened = open_run(stage1, CPU)
    data = few_known(opened, images_of(tmp_path / "novel", {5, 6, 7}, 60), 20)
    known = data.subsets.known_train
    parts = {
        "known_val": known.at(np.arange(held)),
        "known_train": known.at(np.arange(held, len(known.ids))),
    }
    data = dataclasses.replace(data, subsets=dataclasses.replace(data.subsets, **parts))
    assert precheck(opened.network, None, data).calibrated_on == origin


def test_mixed_sets_known_looking_images_aside(stage1_held_out: Path) -> None:
    result = estimate_k(stage1_held_out, Images(), CPU, mixed=True, **FAST)
    assert result.mixed is not None
    assert result.num_unlabeled == 717 - result.mixed.check.count


def test_command_writes_figures_and_picture(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, picture = tmp_path / "count.json", tmp_path / "count.png"
    flags = [str(stage1), "--max-k", "6", "--json", str(table), "--plot", str(picture)]
    assert run_verb("estimate-k", flags) == 0
    written = json.loads(table.read_text())
    assert (
        f"novel classes: {written['estimate']} (range {written['low']} to {written['high']})"
        in capsys.readouterr().out
    )
    evidence = written["evidence"]
    assert {len(scores) for scores in evidence.values()} == {len(evidence["k"])}
    assert Image.open(picture).size[0] > 500


@pytest.mark.parametrize("flag", ["--novel", "--known"])
def test_a_folder_that_is_missing_is_named_by_its_flag(
    stage1: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("estimate-k", [str(stage1), flag, "absent"]) == 2
    assert f"crkd estimate-k: {flag} 'absent' does not exist;" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "1", "-3"])
def test_a_search_for_fewer_than_two_classes_is_refused_first(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("estimate-k", ["absent", f"--max-k={number}"]) == 2
    assert f"--max-k is {number}; give 2 or more" in capsys.readouterr().err


def test_a_negative_seed_is_refused_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("estimate-k", ["absent", "--seed=-1"]) == 2
    assert "crkd estimate-k: --seed is -1; give 0 or more" in capsys.readouterr().err


def test_nothing_to_count_in_is_named(stage1: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--novel"):
        estimate_k(stage1, Images(novel=str(tmp_path / "absent")), CPU)
    few = images_of(tmp_path / "few", {7}, 3)
    with pytest.raises(InputError, match="3 unlabeled images are too few"):
        estimate_k(stage1, Images(novel=str(few)), CPU)
