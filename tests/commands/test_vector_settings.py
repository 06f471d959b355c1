"""Settings that a discovery on vectors does not read are refused before an image is embedded."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image

from crkd.commands.discover.vector_settings import READ, READ_BY_STUDENT
from crkd.commands.main import run_verb
from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.stages.vectors import folders

KNOWN = ("--known", "known")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of own images; the embedding ends the command."""
    monkeypatch.chdir(tmp_path)
    for name in ("known/cat/1.png", "known/dog/2.png", "new/3.png", "new/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)

    def embed(*_: object) -> NoReturn:
        raise InputError("the embedding begins")

    monkeypatch.setattr(folders, "embed", embed)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((*KNOWN, "--split", "5-5"), "--split and --class-order-seed do not apply to feature"),
        ((*KNOWN, "--class-order-seed", "1"), "--split and --class-order-seed do not apply"),
        ((*KNOWN, "--set", "split=5-5"), "--split and --class-order-seed do not apply"),
        ((*KNOWN, "--set", "discover.method=frost"), "discover.method is 'frost', but a"),
        ((*KNOWN, "--set", "discover.prototypes=kmeans"), "discover.prototypes is 'kmeans', but"),
        ((*KNOWN, "--set", "discover.assignment.epsilon=1"), "discover.assignment.epsilon is 1"),
        ((*KNOWN, "--set", "discover.distillation=[]"), "discover.distillation is a list"),
        ((*KNOWN, "--set", "data.session=ids.txt"), "data.session is 'ids.txt', but"),
        ((*KNOWN, "--set", "data.image_size=64"), "data.image_size is 64, but"),
        ((*KNOWN, "--set", "data.features=[a]"), "data.features is"),
        ((*KNOWN, "--set", "model.backbone=resnet8"), "model.backbone is 'resnet8', but"),
        ((*KNOWN, "--set", "pretrain.epochs=2"), "pretrain.epochs is 2, but"),
        ((*KNOWN, "--set", "dataset=digits"), "--set dataset=digits names a data set"),
        (("--set", "data.imbalance=5"), "data.imbalance is 5.0, but"),
    ],
)
def test_a_setting_without_an_effect_is_refused(
    flags: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", ["--novel", "new", "--num-novel", "2", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "leave" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ("discover.precheck=false", "vectors.method=kmeans", "discover.method=swapped"),
        ("data.subset=0.5", "data.imbalance=5", "data.validation_fraction=0.3"),
        ("distill.epochs=2", "loop.loggers=[]", "pretrain.view.recipe=plain"),
        ("data.skip_unreadable=true", "dataset=features", "evaluation.batch_size=7"),
    ],
    ids=" ".join,
)
def test_settings_of_the_discovery_and_of_its_student_are_taken(
    settings: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--set={setting}" for setting in settings]
    command = [*KNOWN, "--novel", "new", "--num-novel", "2", "--skip-unreadable", *words]
    assert run_verb("discover", command) == 2
    assert "the embedding begins" in capsys.readouterr().err


def test_settings_are_refused_before_a_file_of_vectors_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = ["--features", "absent", "absent"]
    assert run_verb("discover", [*files, "--set", "model.backbone=resnet8"]) == 2
    assert "model.backbone is 'resnet8', but" in capsys.readouterr().err


def test_every_name_in_the_lists_is_that_of_a_setting() -> None:
    for name in (*READ, *READ_BY_STUDENT):
        values = plain(Config())
        for key in name.split("."):
            assert key in values, name
            values = values[key]
