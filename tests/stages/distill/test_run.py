from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.losses.term import TERMS, terms_for
from crkd.models.network import with_one_head
from crkd.runs.folder import RunFolder
from crkd.runs.load import OpenedRun, open_run
from crkd.stages.discover.run import discover
from crkd.stages.distill.run import StudentTraining, distill
from crkd.stages.distill.task import JointHead
from crkd.stages.run_data import RunData, prepare
from crkd.training.interruption import Interrupted
from crkd.training.step import TrainingStep
from tests.support.small_runs import (
    interrupt_at,
    same,
    scramble_hidden_labels,
    small_config,
    with_term,
)

pytestmark = pytest.mark.usefixtures("few_images")

CPU = torch.device("cpu")
ALL = terms_for("distill")
STORED = [n for n in ALL if "stored_views" in TERMS.get(n).needs]
LIVE = [n for n in ALL if n not in STORED]
REUSING = "simkd"


def config_for(*settings: str, **flags: object) -> Config:
    few = ("discover.batch_size=32", "distill.epochs=1", "distill.batch_size=60")
    return small_config(*few, *settings, **flags)


@pytest.fixture(scope="module")
def found(stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return discover(config_for(), tmp_path_factory.mktemp("teacher") / "found", stage1)


@pytest.fixture(scope="module")
def teacher(found: RunFolder) -> OpenedRun:
    return open_run(found.path, CPU)


@pytest.fixture(scope="module")
def data() -> RunData:
    return prepare(config_for(), CPU)


@pytest.fixture(scope="module")
def reused(found: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A student that ends in the teacher's heads."""
    out = tmp_path_factory.mktemp("student") / "reused"
    return distill(config_for(*with_term("distill", REUSING)), out, found.path)


def trained(teacher: OpenedRun, data: RunData, *settings: str, steps: int) -> StudentTraining:
    config = config_for("distill.batch_size=32", "distill.optimizer.lr=0.01", *settings)
    student = StudentTraining(config, data, teacher, CPU, generation=1)
    student.task.modules.train()
    step = TrainingStep(
        student.task, config.distill.optimizer, total=100, steps_per_epoch=20, device=CPU
    )
    for number, batch in enumerate(student.loader.batches(0, steps)):
        step.prepare(number)
        step.compute(batch)
    return student


def body(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the backbone proper, without a projector."""
    return getattr(network.backbone, "body", network.backbone).state_dict()


def weights(run: RunFolder) -> dict[str, Tensor]:
    return load_file(run.path / "model.safetensors")


@pytest.mark.parametrize("name", LIVE)
def test_a_term_trains_what_it_should_and_nothing_else(
    name: str, teacher: OpenedRun, data: RunData
):
    before = trained(teacher, data, *with_term("distill", name), steps=0)
    after = trained(teacher, data, *with_term("distill", name), steps=1)
    assert same(before.teacher.state_dict(), after.teacher.state_dict())
    was = dict(before.task.modules.named_parameters())
    for key, parameter in after.task.modules.named_parameters():
        assert torch.equal(parameter, was[key]) == (not parameter.requires_grad), key


@pytest.mark.parametrize("name", [n for n in LIVE if n != "kd"])
def test_with_a_term_the_student_becomes_another_than_with_kd(
    name: str, teacher: OpenedRun, data: RunData
):
    students = [trained(teacher, data, *with_term("distill", n), steps=3) for n in (name, "kd")]
    states = [body(student.network) for student in students]
    assert all(value.isfinite().all() for value in states[0].values())
    assert states[0].keys() == states[1].keys()
    assert not same(*states)


@pytest.mark.parametrize("name", STORED)
def test_stored_labels_train_another_student_than_kd(name: str, found: RunFolder, tmp_path: Path):
    runs = [
        distill(config_for(*with_term("distill", n)), tmp_path / n, found.path)
        for n in (name, "kd")
    ]
    assert not same(*map(weights, runs))


def test_frozen_heads_are_the_teachers_to_the_bit(
    teacher: OpenedRun, data: RunData, reused: RunFolder
):
    student = StudentTraining(
        config_for(*with_term("distill", REUSING)), data, teacher, CPU, generation=1
    )
    heads = {
        key: value
        for key, value in student.teacher.state_dict().items()
        if key.startswith(("known_head.", "novel_heads."))
    }
    assert len(heads) > 5
    stored = weights(reused)
    assert all(torch.equal(stored[key], value) for key, value in heads.items())


def test_a_student_with_the_teachers_heads_answers_all_classes(
    reused: RunFolder, found: RunFolder, teacher: OpenedRun, data: RunData
):
    opened = open_run(reused.path, CPU)
    info, of_teacher = opened.info, found.read_info()
    assert (info.kind, info.status) == ("distilled", "complete")
    assert info.classes == of_teacher.classes
    assert info.parent is not None
    assert info.parent["model_sha256"] == of_teacher.model_sha256
    assert opened.architecture.projected == opened.network.backbone.num_features
    outputs = data.outputs(opened.network, data.subsets.test)
    table = load_predictions(reused.path / "predictions.parquet")
    np.testing.assert_array_equal(table.joint_heads[:, table.of("test")], outputs.joint)
    assert table.num_heads == 1
    assert outputs.joint_logits(0).shape == (len(data.subsets.test), 10)
    theirs = JointHead(with_one_head(teacher.network, of_teacher.chosen_head))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(outputs.features))
    np.testing.assert_allclose(outputs.joint_logits(0), expected, rtol=1e-4, atol=1e-5)


def test_the_run_is_compared_with_its_teacher(reused: RunFolder, found: RunFolder):
    metrics = reused.read_metrics()
    table = load_predictions(reused.path / "predictions.parquet")
    assert json.loads(json.dumps(evaluate(table))) == metrics
    own = found.read_metrics()["chosen_head"]["task_aware"]["train"]["novel"]["acc"]
    baseline = metrics["baselines"]["teacher"]["task_aware"]["train"]["novel"]["acc"]
    assert baseline == pytest.approx(own)
    joint = found.read_metrics()["chosen_head"]["task_agnostic"]["test"]["all"]["acc"]
    (note,) = (n for n in reused.read_info().notes if n.startswith("teacher "))
    assert f"{100 * joint:.1f} % on all test images" in note
    student = open_run(reused.path, CPU).network
    assert f"resnet8, {sum(p.numel() for p in student.parameters()):,} parameters" in note


def test_the_student_does_not_inherit_notes_on_the_teachers_outputs(
    found: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(shutil.copytree(found.path, tmp_path / "teacher"))
    info = copy.read_info()
    info.add_own_notes(["this note is about outputs"])
    copy.write_info(info)
    student = distill(config_for(), tmp_path / "run", copy.path).read_info()
    assert student.inherited_notes() == info.inherited_notes() != []
    assert "this note is about outputs" not in student.notes
    begins = ["teacher ", "student and teacher predict the same class"]
    assert all(map(str.startswith, student.own_notes, begins))


def test_one_plain_head_predicts_all_classes(found: RunFolder, tmp_path: Path, data: RunData):
    run = distill(config_for("distill.head=linear"), tmp_path / "run", found.path)
    opened = open_run(run.path, CPU)
    assert weights(run)["known_head.weight"].shape[0] == 10
    assert opened.network.novel_heads is None
    outputs = data.outputs(opened.network, data.subsets.unlabeled)
    table = load_predictions(run.path / "predictions.parquet")
    np.testing.assert_array_equal(table.joint_heads[:, table.of("train")], outputs.joint)


def test_a_supervised_teacher_has_no_novel_classes_to_teach(
    stage1: Path, data: RunData, tmp_path: Path
):
    student = StudentTraining(config_for(), data, open_run(stage1, CPU), CPU, generation=1)
    assert student.loader.counts == [60, 0], "unlabeled images do not join"
    run = student.train(tmp_path / "run", resume=False)
    assert weights(run)["known_head.weight"].shape[0] == 5
    assert run.read_info().chosen_head is None
    assert 0 <= run.read_metrics()["supervised"]["test"]["known"]["acc"] <= 1
    joined = config_for("distill.unlabeled=true")
    assert (
        StudentTraining(joined, data, open_run(stage1, CPU), CPU, generation=1).loader.counts[1] > 0
    )


def test_without_terms_the_teacher_is_not_asked(
    teacher: OpenedRun, data: RunData, monkeypatch: pytest.MonkeyPatch
):
    from crkd.training.teacher import LiveTeacher

    def refuse(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(LiveTeacher, "__call__", refuse)
    plain = trained(teacher, data, "distill.method=[]", steps=1)
    fresh = trained(teacher, data, "distill.method=[]", steps=0)
    assert not same(body(plain.network), body(fresh.network))
    with pytest.raises(AssertionError):
        trained(teacher, data, *with_term("distill", "kd"), steps=1)


@pytest.mark.parametrize("on", ["labeled", "pseudo"])
def test_scrambled_hidden_labels_leave_the_student_as_it_is(
    on: str, found: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = next(n for n in LIVE if "labels" in TERMS.get(n).needs)
    terms = [{"name": "kd"}, {"name": name, "options": {"on": on}}]
    config = config_for(f"distill.method={json.dumps(terms)}")
    honest = distill(config, tmp_path / "honest", found.path)
    scramble_hidden_labels(monkeypatch)
    scrambled = distill(config, tmp_path / "scrambled", found.path)
    assert same(weights(honest), weights(scrambled))
    both = [run.read_metrics()["task_aware"]["train"]["novel"] for run in (honest, scrambled)]
    assert both[0] != both[1], "the evaluator alone must have seen the scrambled labels"


def test_resumed_students_are_bit_identical(found: RunFolder, reused: RunFolder, tmp_path: Path):
    config = config_for(*with_term("distill", REUSING))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted, match=r"--resume"):
            distill(config, tmp_path / "run", found.path)
    resumed = distill(config, tmp_path / "run", found.path, resume=True)
    assert same(weights(resumed), weights(reused))


def test_generations_follow_each_other_and_resume(found: RunFolder, tmp_path: Path):
    config = config_for("distill.generations=2", *with_term("distill", "tolerant"))
    straight = distill(config, tmp_path / "run", found.path)
    first = RunFolder.open(tmp_path / "run-generation1").read_info()
    parent = straight.read_info().parent
    assert parent is not None
    assert parent["model_sha256"] == first.model_sha256
    assert first.parent is not None
    assert first.parent["model_sha256"] == found.read_info().model_sha256
    sizes = [note for note in straight.read_info().notes if note.startswith("teacher ")]
    assert [note.split(":")[0] for note in sizes] == [f"teacher {tmp_path / 'run-generation1'}"]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted, match=r"student 1 of 2 .* --out .*again --resume"):
            distill(config, tmp_path / "again", found.path)
        assert not (tmp_path / "again").exists()
    resumed = distill(config, tmp_path / "again", found.path, resume=True)
    assert same(weights(resumed), weights(straight))
    assert not same(weights(resumed), weights(RunFolder.open(tmp_path / "again-generation1")))


def test_finished_students_of_another_seed_or_teacher_are_refused(
    found: RunFolder, reused: RunFolder, stage1: Path, tmp_path: Path
):
    config = config_for("distill.generations=2", *with_term("distill", REUSING))
    single = config_for(*with_term("distill", REUSING))
    first = tmp_path / "run-generation1"
    distill(single, first, found.path)
    recorded = RunFolder(first)
    recorded.write_config(config)
    other = dataclasses.replace(config, seed=5)
    with pytest.raises(InputError, match=r"run-generation1 was made with .*seed \(0 then, 5 now\)"):
        distill(other, tmp_path / "run", found.path, resume=True)
    with pytest.raises(InputError, match=r"run-generation1 had another teacher, .*found, than "):
        distill(config, tmp_path / "run", reused.path, resume=True)
    info = recorded.read_info()
    recorded.path.rename(tmp_path / "run-generation2")
    three = dataclasses.replace(config, distill=dataclasses.replace(config.distill, generations=3))
    RunFolder(tmp_path / "run-generation2").write_config(three)
    shutil.copytree(stage1, first)
    unfinished = RunFolder(first)
    unfinished.write_info(dataclasses.replace(info, status="interrupted"))
    with pytest.raises(InputError, match=r"run-generation2 had another .*an unfinished student"):
        distill(three, tmp_path / "run", found.path, resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_taken_folders_of_later_students_are_refused_before_the_first_one(
    resume: bool, found: RunFolder, tmp_path: Path
):
    taken = tmp_path / "run-generation2"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    config = config_for("distill.generations=3", *with_term("distill", REUSING))
    with pytest.raises(InputError, match=r"run-generation2 holds files already"):
        distill(config, tmp_path / "run", found.path, resume=resume)
    assert [place.name for place in tmp_path.iterdir()] == ["run-generation2"]
