"""The stage-1 run that a discovery starts from has its network, and stays the same at a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.load_images import split_entry, split_of

FITTING = ("model.backbone=resnet8", "data.image_size=8")
COMMAND = ("discover", "--dataset=digits", "--out=found", *(f"--set={one}" for one in FITTING))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def parents(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs from which a discovery would start, instead of its training."""
    seen: list[str] = []

    def begins(config: object, out: object, parent: str | Path, **options: object) -> None:
        seen.append(Path(parent).name)
        raise InputError("it begins")

    monkeypatch.setattr("crkd.stages.discover.run.discover", begins)
    return seen


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Folders of the stage-1 runs that would be trained, and whether they are resumed."""
    seen: list[tuple[str, bool]] = []

    def begins(config: object, out: Path, *, resume: bool, **options: object) -> None:
        seen.append((out.name, resume))
        raise InputError("it begins")

    monkeypatch.setattr("crkd.stages.pretrain.run.pretrain", begins)
    return seen


def save_run(name: str, minute: int, *settings: str, **entries: Any) -> None:
    """Write description and configuration of a stage-1 run on digits."""
    config = load_config(None, settings, {"dataset": "digits"})
    run = RunFolder.create(Path(name))
    size = config.data.image_size or 16
    info = RunInfo(
        kind="supervised",
        status="complete",
        dataset="digits",
        split=split_entry(split_of(config), 1.0),
        classes=[ClassInfo(0, "0", "known")],
        preprocessing={"image_size": size, "mean": [0.0], "std": [1.0]},
        architecture={
            "backbone": config.model.backbone,
            "known_head": config.model.known_head,
            "image_size": size,
        },
        seed=config.seed,
        started=f"2026-01-01T00:{minute:02}:00+00:00",
        finished=f"2026-01-01T01:{minute:02}:00+00:00",
    )
    for entry, value in entries.items():
        setattr(info, entry, value)
    run.write_info(info)
    run.write_config(config)


@pytest.mark.parametrize(
    "other",
    [
        ("model.backbone=resnet14", "data.image_size=8"),
        ("model.backbone=resnet8", "data.image_size=16"),
        ("model.backbone=resnet8", "data.image_size=8", "model.known_head=linear"),
    ],
    ids=" ".join,
)
def test_a_newer_run_with_another_network_is_not_taken(
    other: tuple[str, ...],
    parents: list[str],
    trained: list[tuple[str, bool]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_run("pretrain-seed0", 2, *other)
    assert run_verb(*_words()) == 2
    said = capsys.readouterr().err
    assert "image size, backbone 'resnet8' and known_head 'prototype'; make one with 'crkd" in said
    assert run_verb(*_words("--pretrain")) == 2
    assert trained == [("pretrain-seed0-2", False)]
    save_run("older", 1, *FITTING)
    for more in ((), ("--pretrain",)):
        assert run_verb(*_words(*more)) == 2
    assert parents == ["older", "older"]


@pytest.mark.parametrize("verb", ["discover", "baseline"])
def test_a_configuration_on_vectors_names_the_flag(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vectors.yaml"
    file.write_text("dataset: features\ndata: {features: [known.npy, novel.npy]}\n")
    words = ["kmeans"] if verb == "baseline" else []
    assert run_verb(verb, [*words, "--config", str(file), "--out", str(tmp_path / "run")]) == 2
    assert "with --features KNOWN NOVEL, without --config" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "searched"), [("mine/a", "mine or runs"), ("runs/a", "runs")])
def test_each_folder_that_was_searched_is_named_once(
    out: str, searched: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", ["--dataset=digits", f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert f"no finished stage-1 run of digits in {searched} has this split, image size" in said


def _words(*more: str) -> tuple[str, list[str]]:
    return COMMAND[0], [*COMMAND[1:], *more]


@pytest.mark.parametrize(("size", "found"), [("null", True), ("16", True), ("8", False)])
def test_the_default_image_size_is_that_of_the_data_set(
    size: str, found: bool, parents: list[str]
) -> None:
    save_run("older", 1, "model.backbone=resnet8")
    save_run("newer", 2, "model.backbone=resnet8", f"data.image_size={size}")
    words = ["--dataset=digits", "--set=model.backbone=resnet8", "--out=found"]
    assert run_verb("discover", words) == 2
    assert parents == ["newer" if found else "older"]


@pytest.mark.parametrize("more", [(), ("--pretrain",)])
def test_a_resumed_run_starts_from_the_run_that_it_began_with(
    more: tuple[str, ...], parents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_run("older", 1, *FITTING)
    save_run("newer", 2, *FITTING)
    begun = {"path": str(Path("older").resolve()), "model_sha256": ""}
    save_run("found", 3, *FITTING, kind="discovered", status="interrupted", parent=begun)
    assert run_verb(*_words("--resume", *more)) == 2
    assert run_verb(*_words("--resume", "--from", "newer")) == 2
    assert parents == ["older", "newer"]
    Path("older").rename("moved")
    capsys.readouterr()
    assert run_verb(*_words("--resume", *more)) == 2
    said = capsys.readouterr().err
    assert f"--resume: the run in found started from {begun['path']}, which is no run" in said
    assert "name its new place with --from RUN" in said


def test_a_run_without_a_stage_1_is_not_resumed_as_a_discovery(
    capsys: pytest.CaptureFixture[str], parents: list[str]
) -> None:
    save_run("older", 1, *FITTING)
    save_run("found", 2, *FITTING, status="interrupted")
    assert run_verb(*_words("--resume")) == 2
    assert "the run in found did not start from a stage-1 run" in capsys.readouterr().err
    assert not parents


def test_an_interrupted_stage_1_is_continued_in_its_own_folder(
    trained: list[tuple[str, bool]],
) -> None:
    save_run("pretrain-seed0", 1, "model.backbone=resnet14")
    save_run("pretrain-seed0-2", 2, *FITTING, status="interrupted")
    save_run("pretrain-seed0-3", 3, "model.backbone=resnet14", status="interrupted")
    save_run("pretrain-seed01", 4, *FITTING, status="interrupted", seed=1)
    assert run_verb(*_words("--pretrain", "--resume")) == 2
    file = Path("pretrain-seed0-2/run.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "complete"}))
    save_run("elsewhere/pretrain-seed0", 5, *FITTING, status="interrupted")
    words = ["--dataset=digits", "--out=elsewhere/found", "--pretrain", "--resume"]
    assert run_verb("discover", [*words, "--set=model.backbone=resnet20"]) == 2
    # The training itself says what differs from the interrupted one.
    assert trained == [("pretrain-seed0-2", True), ("pretrain-seed0", True)]
