from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions import Predictions
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.class_memory import as_outputs, true_classes, write_true_classes
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.discover.parent import open_parent
from crkd.stages.discover.run import discover
from crkd.stages.distill.run import distill
from crkd.stages.incremental import extension, further, plan_splits, run_plan
from crkd.stages.load_images import load_images
from crkd.stages.pretrain.run import pretrain
from crkd.training.interruption import Interrupted
from tests.support import small_runs
from tests.support.forked import in_fork
from tests.support.small_runs import interrupt_at, scramble_hidden_labels

pytestmark = pytest.mark.usefixtures("few_images")

SIZES = (4, 3, 3)


def small_config(*settings: str, **flags: object) -> Config:
    few = ("data.image_size=16", "pretrain.batch_size=16", "discover.batch_size=32")
    return small_runs.small_config(*few, *settings, **flags)


def same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(path / "model.safetensors") for path in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plan") / "out"
    run_plan(small_config(), SIZES, out)
    return out


def test_a_plan_writes_the_matrix_and_a_picture(plan: Path):
    metrics = json.loads((plan / "metrics.json").read_text())
    assert [len(step["groups"]) for step in metrics["steps"]] == [1, 2, 3]
    assert metrics["steps"][0]["acc"]["old"] is None
    assert all(set(step["acc"]) == {"all", "old", "new"} for step in metrics["steps"])
    assert len(metrics["forgetting"]) == 2
    assert (plan / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_the_label_space_grows_and_keeps_its_ids(plan: Path):
    spaces = [RunFolder(plan / f"step-{n}").read_info().classes for n in range(3)]
    for earlier, later in itertools.pairwise(spaces):
        assert [c.name for c in later[: len(earlier)]] == [c.name for c in earlier]
        assert all(c.kind == "known" for c in later[: len(earlier)])
    assert [c.name for c in spaces[2][4:]] == [f"novel-{n}" for n in range(6)]
    assert [c.step for c in spaces[2]] == [None] * 4 + [1] * 3 + [2] * 3
    assert open_run(plan / "step-2", torch.device("cpu")).architecture.groups == (3,)


def test_every_step_keeps_statistics_of_all_classes(plan: Path):
    for number, classes in enumerate((4, 7, 10)):
        statistics = load_replay(plan / f"step-{number}", classes)
        num_bytes = sum(tensor.nbytes for tensor in statistics.tensors().values())
        assert num_bytes == classes * 4 * 64 * (16 + 2)


def test_old_images_do_not_reach_a_step(plan: Path, tmp_path: Path):
    """With other images in the old classes' place, the step trains the very same weights."""
    config = further(small_config(split=str(plan / "step-1.yaml")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "crkd.stages.run_data.RunData.store",
            _no_known_images(patch),
        )
        again = discover(config, tmp_path / "again", plan / "step-0")
    assert same_weights(again.path, plan / "step-1")


def test_a_step_after_muon_trains_its_heads_by_sgd(plan: Path, tmp_path: Path):
    """The backbone of a step is frozen, so Muon would have nothing to train."""
    first = small_config(split=str(plan / "step-1.yaml"))
    muon = dataclasses.replace(first.discover.optimizer, name="muon")
    recipe = dataclasses.replace(
        first, discover=dataclasses.replace(first.discover, optimizer=muon)
    )
    step = discover(further(recipe), tmp_path / "step", plan / "step-0")
    assert same_weights(step.path, plan / "step-1")
    assert further(recipe, "finetune").discover.optimizer == muon


def _no_known_images(patch: pytest.MonkeyPatch):
    from crkd.stages.run_data import RunData

    original = RunData.store

    def store(self: RunData, part: object) -> object:
        if part is self.subsets.known_train or part is self.subsets.known_val:
            assert len(part) == 0, "a step asked for labeled images"
        return original(self, part)

    return store


def test_scrambled_hidden_labels_change_no_step(plan: Path, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        scramble_hidden_labels(patch)
        run_plan(small_config(), SIZES, tmp_path / "scrambled")
    for number in range(3):
        assert same_weights(plan / f"step-{number}", tmp_path / "scrambled" / f"step-{number}")


@pytest.mark.parametrize("method", ["frost", "finetune"])
def test_scrambled_hidden_labels_change_no_baseline_step(method: str, plan: Path, tmp_path: Path):
    """Stage 1, which all methods share, is compared above."""
    config = further(small_config(split=str(plan / "step-1.yaml")), method)
    honest = discover(config, tmp_path / "honest", plan / "step-0")
    with pytest.MonkeyPatch.context() as patch:
        scramble_hidden_labels(patch)
        scrambled = discover(config, tmp_path / "scrambled", plan / "step-0")
    assert same_weights(honest.path, scrambled.path)
    found = [run.read_metrics()["task_aware"]["train"]["novel"] for run in (honest, scrambled)]
    assert found[0] != found[1], "the evaluator alone must have seen the scrambled labels"


def test_an_interrupted_plan_goes_on_to_the_same_end(plan: Path, tmp_path: Path):
    out = tmp_path / "out"
    first = small_config()
    shutil.copytree(plan, out)
    for number in (1, 2):
        shutil.rmtree(out / f"step-{number}")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(1, patch)
        with pytest.raises(Interrupted):
            run_plan(first, SIZES, out, resume=True)
    assert RunFolder(out / "step-0").read_info().status == "complete"
    run_plan(first, SIZES, out, resume=True)
    assert all(same_weights(plan / f"step-{n}", out / f"step-{n}") for n in range(3))


def stamps(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.parametrize(
    ("settings", "sizes", "method", "difference"),
    [
        (("seed=1",), SIZES, "remember", r"seed \(0 then, 1 now\)"),
        (("discover.epochs=2",), SIZES, "remember", r"discover.epochs \(1 then, 2 now\)"),
        ((), (4, 6), "remember", r"plan \(\[4, 3, 3\] then, \[4, 6\] now\)"),
        ((), SIZES, "frost", r"method \('remember' then, 'frost' now\)"),
    ],
)
def test_another_plan_does_not_resume_and_changes_nothing(
    settings: tuple[str, ...], sizes: tuple[int, ...], method: str, difference: str, plan: Path
):
    before = stamps(plan)
    message = f"{difference}; name another folder with --out, or give the old values"
    with pytest.raises(InputError, match=message):
        run_plan(small_config(*settings), sizes, plan, method=method, resume=True)
    assert stamps(plan) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("seed=1", r"step-0 was made with another configuration: seed \(0 then, 1 now\)"),
        ("discover.epochs=2", r"step-1 was made with .*: discover.epochs \(1 then, 2 now\)"),
        ("class_order_seed=5", r"step-0.yaml has other classes than this plan"),
    ],
)
def test_finished_stages_are_compared_where_the_plan_has_no_configuration(
    settings: str, message: str, plan: Path, tmp_path: Path
):
    """Folders of earlier versions have none, and those of a sweep hold a stage 1 alone."""
    out = tmp_path / "out"
    shutil.copytree(plan, out)
    (out / "config.yaml").unlink(missing_ok=True)
    (out / "metrics.json").unlink()
    before = stamps(out)
    with pytest.raises(InputError, match=message):
        run_plan(small_config(settings), SIZES, out, resume=True)
    assert stamps(out) == before


def test_a_plan_says_where_it_comes_from(plan: Path):
    metrics = json.loads((plan / "metrics.json").read_text())
    assert {"command", "commit", "versions"} <= metrics.keys()
    assert metrics["versions"]["torch"] == torch.__version__
    assert RunFolder(plan).read_config() == small_config()


def test_finetuning_is_another_training(plan: Path, tmp_path: Path):
    config = further(small_config(split=str(plan / "step-1.yaml")), "finetune")
    run = discover(config, tmp_path / "run", plan / "step-0")
    assert not same_weights(run.path, plan / "step-1")
    assert "replay" not in (run.path / "log.jsonl").read_text()


def test_frost_grows_one_joint_head_step_by_step(plan: Path, tmp_path: Path):
    out = tmp_path / "out"
    metrics = run_plan(small_config(), SIZES, out, method="frost")
    assert metrics["method"] == "frost"
    last = open_run(out / "step-2", torch.device("cpu"))
    assert last.architecture.joint
    assert last.network.known_head.prototypes.shape[0] == 10
    assert {"ranks", "self_training", "replay"} <= json.loads(
        (out / "step-1" / "log.jsonl").read_text().splitlines()[-1]
    ).keys()


def test_frost_does_not_continue_from_incremental_heads(plan: Path, tmp_path: Path):
    config = further(small_config(split=str(plan / "step-2.yaml")), "frost")
    with pytest.raises(InputError, match="one joint head"):
        discover(config, tmp_path / "run", plan / "step-1")


def test_a_plan_divides_the_classes_in_their_order():
    _, split = load_images(small_config())
    stages = plan_splits(split, SIZES)
    assert [(len(s.known), len(s.novel)) for s in stages] == [(4, 0), (4, 3), (7, 3)]
    assert stages[2].order == split.order
    with pytest.raises(InputError, match="has 10; lower it"):
        plan_splits(split, (8, 3))


def test_a_further_step_can_be_compressed(plan: Path, tmp_path: Path):
    settings = ["distill.epochs=1", "distill.batch_size=64", "distill.student=resnet8"]
    config = load_config(settings=settings, base=RunFolder(plan / "step-2").read_config())
    run = distill(config, tmp_path / "student", plan / "step-2")
    info = run.read_info()
    assert [c.name for c in info.classes] == [
        c.name for c in RunFolder(plan / "step-2").read_info().classes
    ]
    known = json.loads((plan / "step-1" / "matched.json").read_text())
    assert json.loads((run.path / "matched.json").read_text())[:7] == known
    last = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    assert last["supervised"] == 0.0, "no image of a found class has a label"


def test_true_classes_become_their_matched_outputs():
    known = np.array([0, 1, 3, 2, -1])  # no output found class 4, and output 4 has no class
    labels = np.array([0, 2, 3, 4, 5, -1])
    assert as_outputs(labels, known).tolist() == [0, 3, 2, 4, 5, -1]


def test_an_output_matched_beyond_the_outputs_has_no_class():
    """The earlier run had 8 outputs for 10 classes. Its class 9 is another, new class of now."""
    known = np.array([0, 1, 2, 3, 4, 6, 5, 9])
    assert as_outputs(np.array([0, 9]), known).tolist() == [0, 9]
    assert as_outputs(np.array([5, 6, 7, 8]), known).tolist() == [6, 5, 7, 8]


def test_the_next_step_does_not_remember_a_class_beyond_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("crkd.stages.class_memory.cluster_map", lambda *given: np.array([9, 8]))
    known, run = np.array([0, 1, 2, 3, 4, 6, 5, 9]), RunFolder(tmp_path)
    write_true_classes(run, cast(Predictions, None), known, 0)
    assert true_classes(run, 10).tolist() == [0, 1, 2, 3, 4, 6, 5, -1, 9, 8]


def save_digits(folder: Path, classes: list[int], *, named: bool, last: int = 700) -> None:
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label not in classes or number > last:
            continue
        place = folder / str(label) if named else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = (image * 15.9).astype(np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(place / f"{number}.png")


def test_a_step_starts_in_another_process_without_the_old_folders(tmp_path: Path):
    save_digits(tmp_path / "known", [0, 1, 2], named=True)
    save_digits(tmp_path / "week1", [3, 4], named=False)
    save_digits(tmp_path / "week2", [5, 6], named=False)
    config = small_config(
        dataset="folder", data={"known": str(tmp_path / "known"), "image_size": 16}
    )
    pretrain(config, tmp_path / "run-0")
    for parent, new, number in (("known", "week1", 1), ("week1", "week2", 2)):
        (tmp_path / parent).rename(tmp_path / f"{parent}-away")
        arguments = ["--from", str(tmp_path / f"run-{number - 1}"), "--novel", str(tmp_path / new)]
        arguments += ["--num-novel", "2", "--out", str(tmp_path / f"run-{number}")]
        assert in_fork(run_verb, "discover", arguments) == 0
    info = RunFolder(tmp_path / "run-2").read_info()
    names = ["0", "1", "2", "novel-0", "novel-1", "novel-2", "novel-3"]
    assert [c.name for c in info.classes] == names
    assert info.num_novel == 2


def test_old_images_join_a_step_and_the_others_are_replayed(plan: Path, tmp_path: Path):
    save_digits(tmp_path / "old", [0, 1], named=True, last=1800)
    save_digits(tmp_path / "new", [8, 9], named=False)
    config = extension(RunFolder(plan / "step-1"))
    data = {"known": str(tmp_path / "old"), "novel": str(tmp_path / "new")}
    config = small_config_on(config, data)
    start = open_parent(config, plan / "step-1", torch.device("cpu"))
    assert set(start.data.subsets.known_train.labels.tolist()) == {0, 1}
    assert start.known.without_images == (2, 3, 4, 5, 6)
    run = discover(config, tmp_path / "run", plan / "step-1")
    before, after = load_replay(plan / "step-1", 7), load_replay(run.path, 9)
    assert torch.equal(after.means[2:7], before.means[2:7])
    assert not torch.equal(after.means[:2], before.means[:2])


def test_labels_of_a_data_set_say_nothing_of_found_classes(plan: Path, tmp_path: Path):
    config = small_config("discover.labeled=true", split=str(plan / "step-2.yaml"))
    with pytest.raises(InputError, match=r"discover\.labeled is true"):
        discover(config, tmp_path / "run", plan / "step-1")
    free = small_config(split=str(plan / "step-2.yaml"))
    start = open_parent(free, plan / "step-1", torch.device("cpu"))
    assert len(start.data.subsets.known_train) == 0


def test_replayed_features_have_no_view_and_refuse_batch_norm_per_view(plan: Path, tmp_path: Path):
    config = small_config("model.batch_norm_per_view=true", split=str(plan / "step-2.yaml"))
    with pytest.raises(InputError, match=r"--set model\.batch_norm_per_view=false"):
        discover(config, tmp_path / "run", plan / "step-1")
    assert not (tmp_path / "run").exists()
    assert not further(config).model.batch_norm_per_view


def test_a_foreign_class_among_the_old_images_is_refused(plan: Path, tmp_path: Path):
    save_digits(tmp_path / "old", [0, 9], named=True)
    save_digits(tmp_path / "new", [8], named=False)
    config = extension(RunFolder(plan / "step-1"))
    data = {"known": str(tmp_path / "old"), "novel": str(tmp_path / "new")}
    with pytest.raises(InputError, match="does not know: 9"):
        discover(small_config_on(config, data), tmp_path / "run", plan / "step-1")
    assert not (tmp_path / "run").exists()


def small_config_on(config: Config, data: dict[str, str]) -> Config:
    return load_config(flags={"data": data, "discover": {"num_novel": 2}}, base=config)


def test_a_folder_of_known_classes_alone_adds_none(plan: Path, tmp_path: Path):
    source = load_images(small_config())[0].train
    (tmp_path / "same").mkdir()
    for number in np.flatnonzero(source.labels < 4)[:300].tolist():
        Image.fromarray(source.read(number)).save(tmp_path / "same" / f"{number}.png")
    config = extension(RunFolder(plan / "step-0"))
    config = small_config_on(config, {"novel": str(tmp_path / "same")})
    with pytest.raises(InputError, match=r"look like classes that .* no class is added"):
        discover(config, tmp_path / "run", plan / "step-0")
    assert not (tmp_path / "run").exists()
    forced = load_config(settings=["discover.precheck=false"], base=config)
    start = open_parent(forced, plan / "step-0", torch.device("cpu"))
    assert any("unlabeled images are as near to the known classes" in note for note in start.notes)


def test_a_step_with_fewer_images_than_classes_is_refused(plan: Path, tmp_path: Path):
    save_digits(tmp_path / "new", [8], named=False)
    config = extension(RunFolder(plan / "step-1"))
    flags = {"data": {"novel": str(tmp_path / "new")}, "discover": {"num_novel": 5000}}
    with pytest.raises(InputError, match="--num-novel 5000 exceeds"):
        discover(load_config(flags=flags, base=config), tmp_path / "run", plan / "step-1")
