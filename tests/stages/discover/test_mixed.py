"""Discovery where unlabeled images may be of known classes: generalized category discovery."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.runs.folder import RunFolder
from crkd.stages.baselines.kmeans import kmeans_on_features
from crkd.stages.discover.parent import open_parent
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from crkd.training.interruption import Interrupted
from tests.support import small_runs
from tests.support.small_runs import interrupt_at, same, scramble_hidden_labels

pytestmark = pytest.mark.usefixtures("few_images")
SIMGCD = ("discover.method=simgcd", "discover.optimizer.lr=0.05")


def gcd_config(*settings: str, **flags: object) -> Config:
    return small_runs.small_config(
        "data.labeled_fraction=0.5", "discover.batch_size=48", *settings, **flags
    )


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model.safetensors")


@pytest.fixture(scope="module")
def half_labeled(few_images: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage-1 run with the labels of half of the known images."""
    return pretrain(gcd_config(), tmp_path_factory.mktemp("runs") / "pretrain").path


@pytest.fixture(scope="module")
def finished(half_labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return discover(gcd_config(), tmp_path_factory.mktemp("runs") / "discover", half_labeled)


def test_every_unlabeled_image_is_trained_and_scored(
    finished: RunFolder, half_labeled: Path
) -> None:
    start = open_parent(gcd_config(), half_labeled, torch.device("cpu"))
    table = load_predictions(finished.path / "predictions.parquet")
    train = table.of("train")
    assert list(table.id[train]) == start.data.subsets.unlabeled.ids
    assert table.label[train].tolist() == start.data.subsets.hidden.unlabeled().tolist()
    assert np.unique(table.label[train]).tolist() == list(range(10))
    assert table.joint_heads[:, train].max() < 10
    line = json.loads((finished.path / "log.jsonl").read_text().splitlines()[-1])
    assert line["assign/marginal_error"] < 0.1
    # Nobody can tell which images are novel ones, so none is disputed and none is set aside.
    names = {file.name for file in finished.path.iterdir()}
    assert not names & {"disputed.csv", "looks-known.csv", "known-filter.json"}
    assert finished.read_metrics()["baselines"] == {}


def test_the_shares_of_classes_come_from_the_labeled_fraction(
    finished: RunFolder, half_labeled: Path
) -> None:
    start = open_parent(gcd_config(), half_labeled, torch.device("cpu"))
    assert start.shares is not None
    truth = np.bincount(start.data.subsets.hidden.unlabeled(), minlength=10)
    np.testing.assert_allclose(start.shares[:5].sum(), truth[:5].sum() / truth.sum(), atol=0.01)
    assert len(set(start.shares[5:].tolist())) == 1
    assert any(
        "over all 10 classes, with 33 % of the images in known classes, as data.labeled_fraction "
        "is 0.5" in note
        for note in finished.read_info().notes
    )


@pytest.mark.parametrize(
    "settings",
    [
        (),
        SIMGCD,
        ("model.overclustering=2", "discover.prototypes=kmeans"),
        ("discover.assignment.prior=estimated", "discover.labeled=false"),
    ],
    ids=["default", "simgcd", "over-clustering and k-means", "estimated, known images missing"],
)
def test_scrambled_hidden_labels_change_no_weight(
    settings: tuple[str, ...],
    half_labeled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    shared = {(): "finished", SIMGCD: "simgcd"}.get(settings)
    honest = (
        discover(gcd_config(*settings), tmp_path / "honest", half_labeled)
        if shared is None
        else request.getfixturevalue(shared)
    )
    scramble_hidden_labels(monkeypatch)
    scrambled = discover(gcd_config(*settings), tmp_path / "scrambled", half_labeled)
    assert same(weights(honest), weights(scrambled))
    assert honest.read_info().chosen_head == scrambled.read_info().chosen_head
    tables = [load_predictions(run.path / "predictions.parquet") for run in (honest, scrambled)]
    known = [table.label[table.of("train")] < 5 for table in tables]
    assert (known[0] != known[1]).any(), "labels of unlabeled known images must be scrambled too"
    np.testing.assert_array_equal(tables[0].joint_heads, tables[1].joint_heads)


@pytest.fixture(scope="module")
def simgcd(half_labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("runs") / "simgcd"
    return discover(gcd_config(*SIMGCD), place, half_labeled)


@pytest.mark.parametrize("settings", [(), SIMGCD], ids=["finished", "simgcd"])
def test_a_resumed_run_has_the_same_weights(
    settings: tuple[str, ...],
    half_labeled: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    straight = request.getfixturevalue("simgcd" if settings else "finished")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted):
            discover(gcd_config(*settings), tmp_path / "run", half_labeled)
    resumed = discover(gcd_config(*settings), tmp_path / "run", half_labeled, resume=True)
    assert same(weights(straight), weights(resumed))


@pytest.mark.parametrize(
    "setting",
    [
        "model.overclustering=2",
        "discover.prototypes=kmeans",
        "discover.assignment={prior: given, prior_weights: [1, 1, 1, 1, 1, 9, 1, 1, 1, 1]}",
    ],
)
def test_every_setting_does_something(
    setting: str, finished: RunFolder, half_labeled: Path, tmp_path: Path
) -> None:
    changed = discover(gcd_config(setting), tmp_path / "changed", half_labeled)
    assert not same(weights(finished), weights(changed))


def test_the_entropy_weight_matters(simgcd: RunFolder, half_labeled: Path, tmp_path: Path) -> None:
    config = gcd_config(*SIMGCD, "discover.entropy_weight=1")
    assert not same(weights(simgcd), weights(discover(config, tmp_path / "one", half_labeled)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["discover.method=frost"], "'frost' takes every unlabeled image .* use the method 'swapp"),
        (["discover.assignment.queue=16"], "queue keeps features of the novel heads alone"),
        (
            ["discover.assignment={prior: given, prior_weights: [1, 1, 1, 1, 1]}"],
            "has 5 numbers, but with data.labeled_fraction 0.5 unlabeled images are of known",
        ),
        (
            ["discover.labeled=false", "discover.prototypes=kmeans"],
            "needs labeled images of every known class .* 5 known classes have none",
        ),
        ([*SIMGCD, "discover.labeled=false"], "needs labeled .*--set discover.method=swapped"),
        ([*SIMGCD, "discover.stored_epochs=1"], "does not apply to the method 'simgcd'"),
        (["discover.num_novel=auto"], "there are 0 of 0 classes; train stage 1 with a higher"),
    ],
)
def test_settings_that_do_not_apply_are_refused_before_any_work(
    settings: list[str], message: str, half_labeled: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        discover(gcd_config(*settings), tmp_path / "run", half_labeled)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["swapped", "simgcd"])
def test_a_linear_known_head_is_refused(method: str, tmp_path: Path) -> None:
    config = gcd_config("model.known_head=linear", f"discover.method={method}")
    parent = pretrain(config, tmp_path / "linear").path
    with pytest.raises(
        InputError, match=r"cosines.* train stage 1 with model.known_head=prototype"
    ):
        discover(config, tmp_path / "run", parent)
    assert not (tmp_path / "run").exists()


def test_a_stage_1_that_saw_more_labels_is_refused(stage1: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of the same data set.* run pretrain first"):
        discover(gcd_config(), tmp_path / "run", stage1)


@pytest.mark.parametrize("method", ["kmeans", "semi-kmeans"])
def test_clusters_of_known_classes_have_the_ids_of_these_classes(
    method: str, half_labeled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kmeans_on_features(gcd_config(), tmp_path / "run", half_labeled, method=method)
    table = load_predictions(run.path / "predictions.parquet")
    known = table.of("train") & (table.label < 5)
    # No matching by hidden labels: chance is a tenth.
    assert (table.joint_heads[0, known] == table.label[known]).mean() > 0.4
    assert np.unique(table.joint_heads[0, table.of("train")]).tolist() == list(range(10))
    scramble_hidden_labels(monkeypatch)
    again = kmeans_on_features(gcd_config(), tmp_path / "again", half_labeled, method=method)
    scrambled = load_predictions(again.path / "predictions.parquet")
    np.testing.assert_array_equal(table.joint_heads, scrambled.joint_heads)
