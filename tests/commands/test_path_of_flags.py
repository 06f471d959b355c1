"""Flags of the other kind of discovery are refused, instead of ignored, before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crkd.commands import baseline, discover
from crkd.commands.main import run_verb
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo

OWN = ("--known", "known", "--novel", "new")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of both kinds in a temporary folder; a discovery that begins fails the test."""
    monkeypatch.chdir(tmp_path)
    for name, backbone in (("vectors", "vectors"), ("network", "resnet8")):
        run = RunFolder.create(tmp_path / name)
        split = dict.fromkeys(("name", "fingerprint", "known"), "x")
        shape: dict[str, Any] = {"backbone": backbone}
        sizes = {"image_size": 8, "mean": [0.0], "std": [1.0]}
        classes = [ClassInfo(0, "a", "known")]
        info = RunInfo(
            kind="discovered",
            dataset="folder",
            split=split,
            classes=classes,
            preprocessing=sizes,
            architecture=shape,
            seed=0,
            embedding={"form": {"runtime": "torch"}},
        )
        run.write_info(info)

    def begins(given: object) -> None:
        pytest.fail("the discovery begins")

    monkeypatch.setattr(discover, "_trained", begins)
    monkeypatch.setattr(discover, "run_on_vectors", begins)


@pytest.mark.parametrize(
    ("flag", "remedy"),
    [
        (("--method", "kmeans"), "leave it out, or use --set discover.method=NAME"),
        (("--backbone", "lite0"), "leave it out, or use --set model.backbone=NAME"),
        (("--backbone-weights", "w.pt"), "leave it out, or use --weights FILE"),
        (("--runtime", "onnx"), "leave it out"),
    ],
)
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (("--config", "cifar100-10-10-fast"), "discover trains a network without --novel DIR"),
        ((), "discover trains a network without --novel DIR"),
        (("--dataset", "digits"), "--dataset trains a network"),
        ((*OWN, "--train-backbone"), "--train-backbone trains a network"),
        (("--from", "network", "--novel", "new"), "--from network is a run with a network"),
    ],
)
def test_a_training_takes_no_flag_of_the_embedding(
    path: tuple[str, ...],
    reason: str,
    flag: tuple[str, str],
    remedy: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_verb("discover", [*path, *flag]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"crkd discover: {flag[0]} is for own images")
    assert said.endswith(f", and {reason}; {remedy}\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--from", "vectors", "--weights", "w.pt"), "--weights does not go with --from"),
        (("--from", "vectors", "--data-root", "d"), "--data-root 'd' is the folder of named"),
        (("--from", "vectors", "--runtime", "onnx"), "--runtime is onnx, but the run in --from"),
        ((*OWN, "--weights", "w.pt"), "--weights is for the training of a backbone"),
        ((*OWN, "--data-root", "d"), "--data-root 'd' is the folder of named data sets"),
        (("--features", "a", "b", "--data-root", "d"), "--data-root does not go with --features"),
        (("--features", "a", "b", "--skip-unreadable"), "--skip-unreadable does not go with"),
    ],
)
def test_vectors_take_no_flag_of_a_training(
    flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_the_runtime_of_the_run_in_from_may_be_named(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def begins(given: object) -> None:
        begun.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(discover, "run_on_vectors", begins)
    command = ["--from", "vectors", "--novel", "new", "--runtime", runtime]
    assert run_verb("discover", command) == 130
    assert len(begun) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("discover", "--dataset", "digits", "--from", "network", "--pretrain"),
        ("baseline", "kmeans", "--from", "network", "--pretrain"),
        ("baseline", "uno", "--from", "network", "--pretrain"),
    ],
    ids=" ".join,
)
def test_pretrain_is_refused_with_the_run_to_start_from(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(command[0], command[1:]) == 2
    assert "--from network names the run; leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--from", "network"), ("--pretrain",)])
def test_the_upper_bound_takes_no_stage_1(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(baseline, "config_of", lambda given: pytest.fail("the baseline begins"))
    assert run_verb("baseline", ["supervised", *flags]) == 2
    said = capsys.readouterr().err
    assert f"{flags[0]} gives a stage-1 run to start from, and the baseline supervised" in said
