from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.losses.term import terms_for
from crkd.models.network import Network
from crkd.runs.folder import RunFolder
from crkd.stages.discover import run as discover_run
from crkd.stages.discover.pseudo_labels import Assigner
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from tests.support import small_runs
from tests.support.small_runs import same, scramble_hidden_labels, with_term

pytestmark = pytest.mark.usefixtures("few_images", "few_draws")


def small_config(*settings: str, **flags: object) -> Config:
    """Digits at their own size: larger ones take longer and show nothing more here."""
    given = ("data.image_size=8", "discover.batch_size=64")
    return small_runs.small_config(*given, *settings, **flags)


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model.safetensors")


def trained(config: Config, out: Path, stage1: Path) -> RunFolder:
    """Return a run that was trained and not evaluated; it holds weights and log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discover_run, "finish_run", write_weights)
        return discover(config, out, stage1)


def write_weights(run: RunFolder, network: Network, *rest: object, **options: object) -> None:
    run.write_model(network.state_dict(), {})


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage-1 run that no test changes."""
    return pretrain(small_config(), tmp_path_factory.mktemp("runs") / "pretrain").path


@pytest.fixture(scope="module")
def finished(stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return discover(small_config(), tmp_path_factory.mktemp("runs") / "discover", stage1)


def test_run_folder_holds_everything(finished: RunFolder) -> None:
    names = {file.name for file in finished.path.iterdir()}
    assert names == {
        "run.json",
        "config.yaml",
        "metrics.json",
        "predictions.parquet",
        "model.safetensors",
        "replay.safetensors",
        "matched.json",
        "log.jsonl",
        "log.csv",
        "tensorboard",
        "confusion.png",
        "clusters.json",
        "disputed.csv",
        "rejected.csv",
    }
    info = finished.read_info()
    assert (info.kind, info.status) == ("discovered", "complete")
    assert [c.kind for c in info.classes] == ["known"] * 5 + ["novel"] * 5
    assert info.parent is not None
    assert info.parent["model_sha256"]
    assert info.chosen_head in (0, 1)


def test_metrics_have_the_documented_places(finished: RunFolder) -> None:
    metrics = finished.read_metrics()
    for value in (
        metrics["task_aware"]["train"]["novel"]["acc"],
        metrics["task_agnostic"]["test"]["all"]["acc"],
        metrics["joint_hungarian"]["test"]["novel"]["acc"],
        metrics["chosen_head"]["task_aware"]["train"]["novel"]["acc"],
        metrics["baselines"]["kmeans_pixels"]["task_aware"]["train"]["novel"]["acc"],
        metrics["baselines"]["kmeans_features"]["task_aware"]["train"]["novel"]["acc"],
    ):
        assert 0 <= value <= 1


def test_metrics_follow_from_the_predictions_alone(finished: RunFolder) -> None:
    table = load_predictions(finished.path / "predictions.parquet")
    again = evaluate(table)
    assert json.loads(json.dumps(again)) == finished.read_metrics()


def test_log_lines_carry_raw_and_weighted_terms(finished: RunFolder) -> None:
    lines = [json.loads(line) for line in (finished.path / "log.jsonl").open()]
    last = lines[-1]
    assert last["step"] == 6, "360 digits in batches of 64: 5.6 steps, rounded"
    assert last["class_relation_weighted"] == pytest.approx(0.1 * last["class_relation"], rel=1e-5)
    assert last["loss"] == pytest.approx(
        last["swapped"] + last["class_relation_weighted"], rel=1e-4
    )


def test_same_seed_same_weights(finished: RunFolder, stage1: Path, tmp_path: Path) -> None:
    again = trained(small_config(), tmp_path / "again", stage1)
    assert same(weights(finished), weights(again))


def test_prototypes_of_clusters_are_another_start(
    finished: RunFolder, stage1: Path, tmp_path: Path
) -> None:
    run = trained(small_config("discover.prototypes=kmeans"), tmp_path / "kmeans", stage1)
    assert not same(weights(finished), weights(run))


def test_another_seed_other_weights(finished: RunFolder, stage1: Path, tmp_path: Path) -> None:
    other = trained(small_config(seed=1), tmp_path / "other", stage1)
    assert not same(weights(finished), weights(other))


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.overclustering=2", "discover.distillation=[]"),
        ("data.validation_fraction=0.1", "discover.num_small=1"),
        ("discover.assignment.prior=estimated", "discover.assignment.queue=64"),
        ("discover.prototypes=kmeans", "model.overclustering=2"),
        ("discover.method=frost", "discover.optimizer.lr=0.01"),
        ("discover.num_novel=auto", "discover.average=0.9"),
        ("discover.assignment={relaxation: 0.1, prior: given, prior_weights: [1, 2, 3, 4, 5]}",),
    ],
    ids=[
        "default",
        "overclustering",
        "validation and small views",
        "prior and queue",
        "k-means",
        "frost",
        "estimated number of classes and an average",
        "relaxed sizes",
    ],
)
def test_scrambled_hidden_labels_change_no_weight(
    settings: tuple[str, ...],
    finished: RunFolder,
    stage1: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_config(*settings)
    honest = discover(config, tmp_path / "honest", stage1) if settings else finished
    scramble_hidden_labels(monkeypatch)
    scrambled = discover(config, tmp_path / "scrambled", stage1)
    assert same(weights(honest), weights(scrambled))
    assert honest.read_info().chosen_head == scrambled.read_info().chosen_head
    metrics = [run.read_metrics()["task_aware"]["train"]["novel"] for run in (honest, scrambled)]
    assert metrics[0] != metrics[1], "the evaluator alone must have seen the scrambled labels"


def test_scrambled_hidden_labels_change_no_stage1_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pretrain(small_config(), tmp_path / "honest")
    scramble_hidden_labels(monkeypatch)
    scrambled = pretrain(small_config(), tmp_path / "scrambled")
    assert same(weights(honest), weights(scrambled))


ALL_IMAGES = ("pretrain.num_views=2", *with_term("pretrain", "contrastive"))


def test_scrambled_hidden_labels_change_no_stage1_that_sees_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("pretrain.unlabeled=true", *ALL_IMAGES)
    honest = pretrain(config, tmp_path / "honest")
    known_alone = pretrain(small_config(*ALL_IMAGES), tmp_path / "known")
    scramble_hidden_labels(monkeypatch)
    scrambled = pretrain(config, tmp_path / "scrambled")
    assert same(weights(honest), weights(scrambled))
    assert not same(weights(honest), weights(known_alone))
    assert any("stage 1 saw the unlabeled images" in n for n in honest.read_info().notes)
    assert known_alone.read_info().notes == []


def test_unlabeled_images_in_stage_1_need_a_loss_that_looks_at_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"add pretrain\.distillation"):
        pretrain(small_config("pretrain.unlabeled=true"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_wrong_option_of_a_loss_leaves_no_run_folder(stage1: Path, tmp_path: Path) -> None:
    wrong = small_config("discover.distillation=[{name: kd, options: {temperature: 0}}]")
    with pytest.raises(InputError, match="kd: temperature is 0"):
        discover(wrong, tmp_path / "run", stage1)
    wrong = small_config("pretrain.distillation=[{name: tolerant, options: {top: 99}}]")
    with pytest.raises(InputError, match="tolerant: top is 99"):
        pretrain(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_or_fewer_novel_classes_than_there_are(stage1: Path, tmp_path: Path) -> None:
    run = discover(small_config("discover.num_novel=7"), tmp_path / "seven", stage1)
    assert run.read_info().num_novel == 7
    assert run.read_metrics()["task_aware"]["train"]["novel"]["acc"] is not None
    found = json.loads((run.path / "clusters.json").read_text())
    names = {f"novel-{m}" for m in range(7)}
    assert set(found["unused"]) <= names
    assert all(set(pair["classes"]) <= names for pair in found["merge"])
    rejected = (run.path / "rejected.csv").read_text().splitlines()
    assert len(rejected) == 1 + found["rejected"]


def test_stage1_of_another_split_is_refused(stage1: Path, tmp_path: Path) -> None:
    config = small_config(class_order_seed=3)
    with pytest.raises(InputError, match=r"of the same data set, split, .*: run pretrain first"):
        discover(config, tmp_path / "out", stage1)
    assert not (tmp_path / "out").exists()


def test_an_unfinished_stage1_is_refused_with_its_remedy(stage1: Path, tmp_path: Path) -> None:
    begun = RunFolder.create(tmp_path / "begun")
    info = RunFolder(stage1).read_info()
    begun.write_info(dataclasses.replace(info, status="interrupted", model_sha256=None))
    with pytest.raises(InputError, match=r"status 'interrupted'\); finish it with --resume"):
        discover(small_config(), tmp_path / "out", begun.path)
    assert not (tmp_path / "out").exists()


def test_stage1_with_another_backbone_is_refused(stage1: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--set model\.backbone=resnet8"):
        discover(small_config("model.backbone=resnet20"), tmp_path / "out", stage1)


def test_changed_stage1_weights_are_noticed(stage1: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(stage1, copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="differs from the file this run wrote"):
        discover(small_config(), tmp_path / "out", copy)


@pytest.mark.parametrize(
    "setting",
    [
        "discover.assignment.prior=estimated",
        "discover.assignment={prior: given, prior_weights: [1, 1, 1, 1, 6]}",
        "discover.assignment.relaxation=0.05",
        "discover.assignment={queue: 64, queue_start_epoch: 0}",
        "discover.assignment={queue: 64, queue_start_epoch: 5}",
        "discover.assignment.num_iters=20",
        "discover.assignment.epsilon=0.2",
        "discover.labeled_share=0.25",
        "discover.average=0.5",
        "discover.distillation=[]",
        "discover.distillation=[{weight: 0.1, options: {form: kl}}]",
        "discover.large={recipe: digits, options: {rotation: 5}}",
    ],
)
def test_every_setting_does_something(
    setting: str, finished: RunFolder, stage1: Path, tmp_path: Path
) -> None:
    changed = trained(small_config(setting), tmp_path / "changed", stage1)
    filling_only = "queue_start_epoch: 5" in setting
    assert same(weights(finished), weights(changed)) == filling_only


@pytest.mark.parametrize("name", [n for n in terms_for("discover") if n != "class_relation"])
def test_every_term_plugs_in(name: str, stage1: Path, tmp_path: Path) -> None:
    settings = ["discover.batch_size=180", *with_term("discover", name, weight=0.1)]
    runs = []
    for number in range(2):
        torch.manual_seed(number)
        runs.append(trained(small_config(*settings), tmp_path / str(number), stage1))
    assert same(*map(weights, runs)), "the run's seed alone decides, not the process's"
    line = json.loads((runs[0].path / "log.jsonl").read_text().splitlines()[-1])
    assert line[f"{name}_weighted"] == pytest.approx(0.1 * line[name], rel=1e-5)
    assert np.isfinite(line["loss"])


def test_a_given_prior_shapes_the_assignment(stage1: Path, tmp_path: Path) -> None:
    log = {}
    for name, weights_given in (("even", [1, 1, 1, 1, 1]), ("skewed", [1, 1, 1, 1, 16])):
        setting = f"discover.assignment={{prior: given, prior_weights: {weights_given}}}"
        run = trained(small_config(setting), tmp_path / name, stage1)
        log[name] = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    assert log["skewed"]["assign/largest_cluster"] > log["even"]["assign/largest_cluster"] + 0.2


def test_a_stuck_assignment_is_named(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    trained(small_config("discover.assignment.epsilon=100"), tmp_path / "stuck", stage1)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning: the assignment is stuck") == 1


def test_a_collapsed_assignment_is_named(
    stage1: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def all_in_one(self, logits, prototypes, projections=None):  # type: ignore[no-untyped-def]
        return torch.zeros_like(logits).index_fill_(-1, torch.tensor([2]), 1.0)

    monkeypatch.setattr(Assigner, "forward", all_in_one)
    trained(small_config(), tmp_path / "collapsed", stage1)
    assert capsys.readouterr().err.count("warning: the assignment has collapsed") == 1


def test_small_batch_warns(stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = ("discover.batch_size=8", "discover.num_novel=6")
    from crkd.training import loop

    class Stop(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "step", stop)
        with pytest.raises(Stop):
            discover(small_config(*settings), tmp_path / "out", stage1)
    assert "a batch holds 4 unlabeled images for 6 classes" in " ".join(
        capsys.readouterr().err.split()
    )
    assert RunFolder(tmp_path / "out").read_info().status == "failed"
