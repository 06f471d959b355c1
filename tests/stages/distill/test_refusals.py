"""Refusals of teacher-to-student training, and messages of its command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.splits.class_split import ClassSplit
from crkd.losses.term import TERMS, terms_for
from crkd.models.backbones.base import BACKBONES, Backbone
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.stages.distill.run import StudentTraining, distill
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import prepare
from crkd.training.interruption import Interrupted
from tests.support.small_runs import interrupt_at, small_config, with_term

CPU = torch.device("cpu")


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert run_verb("distill", arguments) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("crkd distill: ")]
    return line


def changed(stage1: Path, folder: Path, **values: object) -> Path:
    """Return a copy of a run whose description says something else."""
    shutil.copytree(stage1, folder)
    run = RunFolder(folder)
    info = run.read_info()
    for name, value in values.items():
        setattr(info, name, value)
    run.write_info(info)
    return folder


def test_the_list_names_every_term_and_what_it_needs(capsys: pytest.CaptureFixture):
    assert run_verb("distill", ["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == TERMS.names()
    for line, name in zip(lines, TERMS.names(), strict=True):
        assert all(need in line for need in TERMS.get(name).needs)
        assert ("distill" in line) == ("distill" in TERMS.get(name).stages)


def test_a_run_without_a_network_cannot_teach(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    baseline = changed(stage1, tmp_path / "kmeans", kind="baseline", architecture=None)
    assert "trained no network" in refused(capsys, "--teacher", str(baseline))


def test_an_unfinished_run_cannot_teach(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    begun = changed(stage1, tmp_path / "begun", status="interrupted", model_sha256=None)
    assert "has no finished model" in refused(capsys, "--teacher", str(begun))


def test_a_method_of_another_stage_names_the_alternatives(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = tmp_path / "out"
    flags = ["--teacher", str(stage1), "--out", str(out)]
    line = refused(capsys, *flags, "--method", "class_relation")
    assert f"choose one of: {', '.join(terms_for('distill'))}" in line
    assert "did you mean 'simkd'" in refused(capsys, *flags, "--method", "simk")
    assert not out.exists()


class Flat(Backbone):
    """A backbone that gives no feature maps."""

    num_features, map_channels = 64, ()

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, self.num_features)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean(dim=(2, 3)))

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self(images), ()

    def blocks(self) -> list[nn.Module]:
        return [self.layer]


@pytest.mark.parametrize(
    "name", [n for n in terms_for("distill") if "stored_views" not in TERMS.get(n).needs]
)
def test_a_student_without_feature_maps_trains_or_is_refused_at_the_start(
    name: str, stage1: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(BACKBONES._entries, "flat", Flat)
    config = small_config("distill.student=flat", *with_term("distill", name))
    data, opened = prepare(config, CPU), open_run(stage1, CPU)
    refusal = ""
    try:
        student = StudentTraining(config, data, opened, CPU, generation=1)
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert "map" in refusal
        assert "feature_maps" in TERMS.get(name).needs
        return
    loss, _ = student.task.losses(next(student.loader.batches(0, 1)))
    assert loss.isfinite()


def test_other_data_than_the_teachers_is_refused(
    stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ClassSplit, "fingerprint", lambda self: "another")
    with pytest.raises(InputError, match="is not what it was trained on"):
        distill(small_config(), tmp_path / "out", stage1)
    assert not (tmp_path / "out").exists()


def test_a_student_goes_on_with_its_own_teacher(stage1: Path, tmp_path: Path):
    config = small_config("distill.epochs=1", "distill.batch_size=240")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(0, patch)
        with pytest.raises(Interrupted):
            distill(config, tmp_path / "out", stage1)
    other = pretrain(small_config(seed=1), tmp_path / "other")
    with pytest.raises(InputError, match=r"began with another teacher, .*pretrain.* than .*other"):
        distill(config, tmp_path / "out", other.path, resume=True)


def test_views_of_two_sizes_are_refused(stage1: Path, tmp_path: Path):
    views = "distill.views=[{recipe: digits}, {recipe: digits, size_share: 0.5}]"
    with pytest.raises(InputError, match=r"views of 4, 8 px; give all of them one size_share"):
        distill(small_config(views), tmp_path / "out", stage1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--teacher is not given"),
        (["--set", "data.image_size=8"], "belongs to the teacher"),
        (["--set", "distill.epoch=3"], "unknown configuration key 'distill.epoch'"),
        (["--student", "resnet9"], "unknown backbone 'resnet9'"),
        (["--resume"], "--resume needs --out"),
        (["--generations", "0"], "'distill.generations' is 0"),
    ],
)
def test_flags_that_do_not_fit(
    flags: list[str], message: str, stage1: Path, capsys: pytest.CaptureFixture
):
    teacher = ["--teacher", str(stage1)] if flags else []
    assert message in refused(capsys, *teacher, *flags)


def test_flags_become_the_configuration(stage1: Path):
    from crkd.commands.distill import student_config
    from crkd.commands.verbs import parsers

    flags = ["--teacher", str(stage1), "--student", "resnet20", "--method", "semckd"]
    more = ["--set", "distill.epochs=7", "--seed", "3", "--data-root", "elsewhere"]
    config = student_config(parsers("distill")[1]["distill"].parse_args([*flags, *more]))
    assert (config.distill.student, config.distill.epochs, config.seed) == ("resnet20", 7, 3)
    assert [(t.name, t.weight) for t in config.distill.method] == [("semckd", None), ("kd", 1.0)]
    assert config.model.hidden == 16, "the rest is the teacher's"
    assert config.data.root == "elsewhere"
