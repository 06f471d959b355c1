"""Plans on images whose sessions mix new classes with a few images of old ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crkd.commands.main import main
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.splits.partition import partition
from crkd.data.splits.sessions import SessionSizes
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.stages.discover.mixed import drawn_known_share
from crkd.stages.discover.precheck import drawn_features
from crkd.stages.distill.run import distill
from crkd.stages.incremental import run_plan
from crkd.stages.load_images import load_images
from tests.support import small_runs
from tests.support.small_runs import same, scramble_hidden_labels

SIZES, MIXED = (4, 3, 3), SessionSizes(20, 4)


def small_config(*settings: str, **flags: object) -> Config:
    """A third of the digits: about 48 training images of a class, 34 of them labeled."""
    return small_runs.small_config(
        *("data.subset=0.33", "data.labeled_fraction=0.7", "discover.batch_size=32"),
        *("pretrain.batch_size=32", "pretrain.epochs=2", *settings),
        **flags,
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plan") / "out"
    run_plan(small_config(), SIZES, out, mixed=MIXED)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def images(plan: Path, number: int) -> list[str]:
    return (plan / f"step-{number}-images.txt").read_text().splitlines()


def test_a_session_has_the_sizes_of_the_protocol(plan: Path) -> None:
    dataset, split = load_images(small_config())
    label_of = dict(zip(dataset.train.ids, split.joint_ids(dataset.train.labels), strict=True))
    wanted = {1: [4] * 4 + [20] * 3, 2: [4] * 7 + [20] * 3}
    for number, sizes in wanted.items():
        found = [label_of[name] for name in images(plan, number)]
        assert np.bincount(found, minlength=7).tolist() == sizes
        table = load_predictions(plan / f"step-{number}" / "predictions.parquet")
        assert sorted(table.id[table.of("train")]) == sorted(images(plan, number))


def test_old_images_of_a_session_had_no_label_in_stage_1(plan: Path) -> None:
    config = small_config(split=str(plan / "step-0.yaml"))
    dataset, split = load_images(config)
    stage1 = partition(
        dataset,
        split,
        validation_fraction=0.0,
        seed=config.seed,
        labeled_fraction=config.data.labeled_fraction,
        subset=config.data.subset,
    )
    for number in (1, 2):
        assert not set(stage1.known_train.ids) & set(images(plan, number))
        old = set(stage1.unlabeled.ids) & set(images(plan, number))
        assert len(old) == 4 * MIXED.old


def test_every_session_has_all_scores(plan: Path) -> None:
    metrics = json.loads((plan / "metrics.json").read_text())
    assert metrics["session"] == {"new": 20, "old": 4}
    assert [step["stage"] for step in metrics["steps"]] == ["pretrain", "discover", "discover"]
    first, *later = (step["hungarian"] for step in metrics["steps"])
    assert first["new"] is None
    for scores in later:
        assert all(0 <= scores[name] <= 1 for name in ("all", "old", "new", "seen", "unseen"))
    lost = [first["old"] - scores["old"] for scores in later]
    assert metrics["max_forgetting"] == pytest.approx(max(lost))
    assert metrics["mean_discovery"] == pytest.approx(np.mean([s["unseen"] for s in later]))


def test_the_hungarian_scores_are_those_of_the_run(plan: Path) -> None:
    """The last run knows seven classes and finds three: the groups "soft"."""
    metrics = json.loads((plan / "metrics.json").read_text())
    run = RunFolder(plan / "step-2").read_metrics()["chosen_head"]["joint_hungarian"]["test"]
    last = metrics["steps"][-1]["hungarian"]
    found = {name: run[name]["acc"] for name in ("all", "known", "novel")}
    assert found == {
        "all": pytest.approx(last["all"]),
        "known": pytest.approx(last["seen"]),
        "novel": pytest.approx(last["unseen"]),
    }


def test_the_share_of_known_classes_comes_from_their_statistics(plan: Path) -> None:
    parent = RunFolder(plan / "step-0")
    known, _ = drawn_features(parent, 20, seed=9)
    draw = np.random.default_rng(0)
    centers = known.mean(axis=0) + 6 * known.std() * draw.standard_normal((3, known.shape[1]))
    novel = np.concatenate([center + 0.1 * draw.standard_normal((80, 64)) for center in centers])
    found = drawn_known_share(parent, np.concatenate([known, novel.astype(np.float32)]), seed=0)
    assert found == pytest.approx(80 / 320, abs=0.05)
    notes = RunFolder(plan / "step-1").read_info().notes
    assert any("as features drawn from the statistics of these classes" in n for n in notes)


def test_scrambled_hidden_labels_change_no_session(plan: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        scramble_hidden_labels(patch)
        run_plan(small_config(), SIZES, tmp_path / "scrambled", mixed=MIXED)
    for number in range(3):
        places = [folder / f"step-{number}" for folder in (plan, tmp_path / "scrambled")]
        assert same(*(weights(place) for place in places))
        if number == 0:
            continue
        infos = [RunFolder(place).read_info() for place in places]
        assert infos[0].chosen_head == infos[1].chosen_head
        tables = [load_predictions(place / "predictions.parquet") for place in places]
        np.testing.assert_array_equal(tables[0].joint_heads, tables[1].joint_heads)
        assert (tables[0].label != tables[1].label).any()


def test_a_student_of_a_session_sees_no_hidden_label(plan: Path, tmp_path: Path) -> None:
    settings = ["distill.epochs=1", "distill.batch_size=64", "distill.student=resnet8"]
    for number in (1, 2):
        teacher = plan / f"step-{number}"
        config = load_config(settings=settings, base=RunFolder(teacher).read_config())
        students = [distill(config, tmp_path / f"honest-{number}", teacher).path]
        with pytest.MonkeyPatch.context() as patch:
            scramble_hidden_labels(patch)
            students.append(distill(config, tmp_path / f"scrambled-{number}", teacher).path)
        assert same(*map(weights, students))


def test_a_plan_without_sessions_has_new_classes_alone(tmp_path: Path) -> None:
    run_plan(small_config(), (6, 4), tmp_path / "plan")
    table = load_predictions(tmp_path / "plan" / "step-1" / "predictions.parquet")
    assert set(table.label[table.of("train")]) == {6, 7, 8, 9}
    assert not RunFolder(tmp_path / "plan" / "step-1").read_config().mixed


def test_a_finished_plan_is_read_again(plan: Path) -> None:
    before = json.loads((plan / "metrics.json").read_text())
    stamps = [(plan / f"step-{n}" / "model.safetensors").stat().st_mtime_ns for n in range(3)]
    again = run_plan(small_config(), SIZES, plan, mixed=MIXED, resume=True)
    assert again == before
    assert stamps == [
        (plan / f"step-{n}" / "model.safetensors").stat().st_mtime_ns for n in range(3)
    ]


@pytest.mark.parametrize(
    ("settings", "method", "session", "message"),
    [
        ((), "frost", MIXED, "the method 'swapped' or 'simgcd'"),
        ((), "remember", SessionSizes(20, 25), "a base class has 1. samples without a label"),
        ((), "remember", SessionSizes(99, 4), "a class has .* samples, and --session asks for 99"),
        (("data.labeled_fraction=1",), "remember", MIXED, "lower data.labeled_fraction"),
        (("model.known_head=linear",), "remember", MIXED, "model.known_head=prototype"),
        (("discover.prototypes=kmeans",), "remember", MIXED, "set it to 'random'"),
    ],
)
def test_refused_before_any_work(
    settings: tuple[str, ...], method: str, session: SessionSizes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run_plan(small_config(*settings), SIZES, tmp_path / "no", method=method, mixed=session)
    assert not (tmp_path / "no").exists()


def test_the_command_refuses_a_session_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["increments", "--plan", "5-5", "--session", "4", "--out", str(tmp_path / "no")]
    assert main(command) == 2
    assert "such as 400-25" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
