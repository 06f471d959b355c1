"""Commands as a person meets them: exit codes, one clear sentence, nothing half-written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.commands.main import main, run_verb
from tests.support import ROOT
from tests.support.small_runs import thin_data_sets

SMALL = [
    "--set=model.hidden=16",
    "--set=model.projection=8",
    "--set=model.num_heads=2",
    "--set=pretrain.epochs=1",
    "--set=pretrain.num_views=1",
    "--set=discover.epochs=1",
    "--set=evaluation.kmeans_restarts=1",
]
TRAIN = ["--train-backbone", "--pretrain"]
TINY_IMAGES = [
    *SMALL,
    "--set=model.backbone=resnet8",
    "--image-size=16",
    "--set=pretrain.batch_size=8",
    "--set=discover.batch_size=16",
]


WITHOUT_INPUT = {
    "apply-review": ["none", "decisions.json", "--out", "named"],
    "discover": ["--known", "none", "--novel", "none"],
    "distill": ["--teacher", "none"],
    "embed": ["none", "--out", "vectors.parquet"],
    "estimate-k": ["none"],
    "export": ["none", "--format", "onnx"],
    "predict": ["none", "images"],
    "review": ["none"],
    "watch": ["images", "--run", "none"],
}
"""Arguments of verbs that name a run or a folder "none"."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default run folders go to a temporary folder."""
    monkeypatch.chdir(tmp_path)


def test_a_missing_run_or_folder_is_refused_before_pytorch_is_imported() -> None:
    program = (
        "import json, sys\nfrom crkd.commands.main import run_verb\n"
        "verbs = json.loads(sys.argv[1])\n"
        "codes = [run_verb(*verb) for verb in verbs.items()]\n"
        "print(*codes, sorted({'torch', 'sklearn'} & set(sys.modules)))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, json.dumps(WITHOUT_INPUT)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.split() == ["2"] * len(WITHOUT_INPUT) + ["[]"]
    assert finished.stderr.count("none is not a run folder") == len(WITHOUT_INPUT) - 2
    assert "--known 'none' does not exist" in finished.stderr
    assert "DIR 'none' does not exist" in finished.stderr


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Run a command that must end with exit code 2 and one line; return the line."""
    assert run_verb(arguments[0], arguments[1:]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return lines[-1]


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    known, novel = tmp_path / "known", tmp_path / "new photos"
    for label, name in enumerate(("cat", "dog")):
        for number in range(8):
            save_image(known / name / f"{number}.png", 100 * label + number)
    for number in range(20):
        save_image(novel / f"image {number}.png", 1000 + number)
    return known, novel


def test_whole_job_on_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    thin_data_sets(monkeypatch)
    assert main(["discover", "--dataset", "digits", "--pretrain", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "task-aware" in out
    assert "joint Hungarian" in out
    run = tmp_path / "runs" / "digits-default" / "discover-seed0"
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "metrics.json").read_text())
    for name in ("uno", "swapped", "kmeans"):
        assert main(["baseline", name, "--dataset", "digits", *SMALL]) == 0
    factors = {
        name: json.loads((run.parent / f"{name}-seed0" / "run.json").read_text())["architecture"][
            "overclustering"
        ]
        for name in ("discover", "uno", "swapped")
    }
    assert factors == {"discover": 0, "uno": 3, "swapped": 0}
    assert main(["baseline", "supervised", "--dataset", "digits", *SMALL]) == 0
    capsys.readouterr()
    others = [str(run.parent / f"{name}-seed0") for name in ("uno", "kmeans", "supervised")]
    assert main(["compare", str(run), *others]) == 0
    assert "kmeans-seed0" in capsys.readouterr().out
    assert len(list(run.parent.glob("pretrain-*"))) == 1, "stage 1 is found, not trained again"
    assert main(["discover", "--dataset", "digits", *SMALL]) == 0
    assert (run.parent / "discover-seed0-2").is_dir(), "a finished run is never overwritten"
    assert "(seed" not in capsys.readouterr().err
    assert main(["discover", "--dataset", "digits", "--seed", "7", *SMALL]) == 0
    assert "pretrain-seed0 (seed 0; this run has seed 7" in capsys.readouterr().err


def test_own_images(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    known, novel = folders
    flags = ["--known", str(known), "--novel", str(novel)]
    assert "add --num-novel K" in refused(capsys, "discover", *flags, *TRAIN, *TINY_IMAGES)
    done = ["--num-novel", "3", "--out", "mine", *TINY_IMAGES]
    assert main(["discover", *flags, *TRAIN, *done]) == 0
    said = capsys.readouterr().out
    assert "discovered classes (no labels)" in said
    # A training measures no stability.
    assert "stability" not in said
    metrics = json.loads((tmp_path / "mine" / "metrics.json").read_text())
    assert metrics["task_aware"]["train"]["novel"]["acc"] is None
    assert 0 <= metrics["validation"]["known"]["acc"] <= 1
    run = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert [c["name"] for c in run["classes"]] == ["cat", "dog", "novel-0", "novel-1", "novel-2"]


def test_an_interrupted_whole_job_goes_on_in_both_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from crkd.training import loop

    thin_data_sets(monkeypatch)
    batches = ("--set=pretrain.batch_size=16", "--set=discover.batch_size=32")
    command = ["discover", "--dataset", "digits", "--pretrain", *SMALL, *batches]
    honest, moments = loop.Loop.step, [("pretrain", 3), ("discover", 5)]

    def interrupted(self, batch, number):  # type: ignore[no-untyped-def]
        if moments and (self.task.stage, number) == moments[0]:
            moments.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
        honest(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "step", interrupted)
        assert main(command) == 130
        advice = capsys.readouterr().err.strip().splitlines()[-1]
        assert "stage 1 stopped after step 4" in advice
        resume_flags = advice.split("same command and ")[1].split()
        assert main([*command, *resume_flags]) == 130
        assert advice.split("same command and ")[1] in capsys.readouterr().err
        assert main([*command, *resume_flags]) == 0
    run = tmp_path / resume_flags[1]
    assert json.loads((run / "run.json").read_text())["status"] == "complete"
    assert len(list(run.parent.iterdir())) == 2, "one folder a stage"


@pytest.mark.parametrize(
    "arguments",
    [
        ("discover", "--config", "NAME"),
        ("discover", "--dataset", "NAME"),
        ("discover", "--dataset", "digits", "--from", "NAME"),
        ("evaluate", "NAME"),
        ("predict", "NAME", "images"),
        ("review", "NAME"),
        ("compare", "NAME"),
        ("check-data", "--known", "NAME"),
        ("embed", "NAME", "--out", "x.parquet"),
        ("reproduce", "NAME"),
        ("distill", "--teacher", "NAME"),
    ],
    ids=" ".join,
)
def test_a_name_that_no_file_system_allows_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture, arguments: tuple[str, ...]
) -> None:
    line = refused(capsys, *(word.replace("NAME", "a" * 300) for word in arguments))
    assert "aaa" in line
    assert len(line) < 600


def test_no_stage1_run_gives_the_exact_command(capsys: pytest.CaptureFixture) -> None:
    line = refused(capsys, "discover", "--dataset", "digits", "--seed", "3", "--out", "x")
    assert "'crkd pretrain --dataset digits --seed 3'" in line
    assert "--pretrain" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--dataset", "digit"], "unknown data set 'digit' (did you mean 'digits'?)"),
        (["pretrain", "--dataset", "cifar100", "--data-root", "none"], "--data-root 'none'"),
        (["pretrain", "--dataset", "digits", "--split", "9-1"], "has no split '9-1'"),
        (["pretrain", "--known", "missing"], "missing"),
        (["pretrain", "--device", "tpu"], "--device 'tpu' is unknown"),
        (["pretrain", "--device", "cuda:99"], "--device 'cuda:99' does not exist"),
        (["pretrain", "--resume"], "--resume needs --out RUN"),
        (["pretrain", "--set", "seed"], "has no '='"),
        (["pretrain", "--set", "model.backbone=resnet9"], "unknown backbone 'resnet9'"),
        (["pretrain", "--num-novel=--5"], "'discover.num_novel' is '--5'; it must be a whole"),
        (["pretrain", "--num-novel=-5"], "'discover.num_novel' is -5; it must be a number at"),
        (["pretrain", f"--num-novel={'5' * 5000}"], "'discover.num_novel' is '5555"),
        (["discover", "--known", "somewhere"], "--novel is not given"),
        (["discover", "--from", "nowhere"], "nowhere is not a run folder"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.rglob("run.json"))


def test_a_folder_with_one_class(folders: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    import shutil

    known, _ = folders
    shutil.rmtree(known / "dog")
    assert "two" in refused(capsys, "pretrain", "--known", str(known), *TINY_IMAGES)


def test_unreadable_image(folders: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    known, _ = folders
    (known / "cat" / "broken.png").write_bytes(b"not an image")
    assert main(["check-data", "--known", str(known), "--near-duplicates"]) == 1
    printed = capsys.readouterr().out
    assert "broken.png" in printed
    assert re.search(r"train: 1 of \d+ images cannot be read", printed)
    assert "discover leaves out the images that cannot be read" in printed
    assert "NOT usable" not in printed
    assert "near-duplicates are searched only in a set without these problems" in printed
    assert main(["check-data", "--known", str(known), "--skip-unreadable"]) == 0
    assert "--skip-unreadable" not in capsys.readouterr().out
    flags = ["pretrain", "--known", str(known), *TINY_IMAGES]
    assert "broken.png" in refused(capsys, *flags)
    assert main([*flags, "--skip-unreadable"]) == 0


def test_out_of_memory_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from crkd.stages.pretrain.task import SupervisedTask

    def exhausted(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(SupervisedTask, "losses", exhausted)
    assert run_verb("pretrain", ["--dataset", "digits", *SMALL]) == 3
    assert "lower --set pretrain.batch_size=N" in capsys.readouterr().err


def test_tools_work_as_scripts_from_anywhere(tmp_path: Path) -> None:
    """A refusal for which torch is not imported shows it as well as any other use."""
    script = [sys.executable, str(ROOT / "tools" / "check_gpu.py"), "--check-seconds", "0"]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("crkd check-gpu: --check-seconds is 0; give a number above 0")
    assert "Traceback" not in done.stderr


def test_gpu_checks_without_a_gpu_say_that_nothing_was_checked(
    capsys: pytest.CaptureFixture,
) -> None:
    import torch

    from crkd.commands.check_gpu import all_checks

    assert len(all_checks()) > 15
    if not torch.cuda.is_available():
        assert "nothing was checked" in refused(capsys, "check-gpu")


def test_embed_prints_what_is_in_the_file_and_refuses_in_one_sentence(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture
):
    known, _ = folders
    (known / "cat" / "broken.png").write_bytes(b"")
    arguments = ["embed", str(known), "--out=v.parquet", "--image-size=32", "--runtime=torch"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 file skipped, listed in v.skipped.csv" in said
    assert "16 images embedded" in said
    assert main([*arguments, "--resume"]) == 0
    assert "0 images embedded" in capsys.readouterr().out
    assert "--out 'v.csv'" in refused(capsys, "embed", str(known), "--out=v.csv")
    assert "--backbone 'lite1'" in refused(
        capsys, "embed", str(known), "--out=w.parquet", "--backbone=lite1"
    )
    assert not list(Path().glob("*.parts"))
