"""Folders of images as a discovery on vectors, and the verbs on such a run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import main
from crkd.data.storage.resize import fit_square
from crkd.evaluation.predictions_file import load_predictions
from crkd.review.decisions import FORMAT, VERSION
from crkd.review.run_outputs import gather
from crkd.runs.folder import RunFolder
from tests.support.color_folders import EACH, NEW, color_folders, discover_colors
from tests.support.review_decisions import applied

pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of one color for each class: labeled folders, and a flat unlabeled folder."""
    root = tmp_path_factory.mktemp("images")
    color_folders(root)
    return root


@pytest.fixture(scope="module")
def photographs(folders: Path) -> Path:
    """The run of ``crkd discover --known DIR --novel DIR``."""
    return discover_colors(folders)


def test_two_folders_become_a_run_that_predicts_images(
    photographs: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = load_predictions(photographs / "predictions.parquet")
    train = table.of("train")
    clusters = dict(zip(table.id[train], table.novel_heads[0][train], strict=True))
    by_color = {
        name: {cluster for image, cluster in clusters.items() if name in image} for name in NEW
    }
    assert [len(found) for found in by_color.values()] == [1, 1]
    assert by_color["yellow"] != by_color["white"]
    assert main(["predict", str(photographs), str(folders / "novel"), "--out", "p.json"]) == 0
    images = json.loads((tmp_path / "p.json").read_text())["images"]
    # The embedding of predict is that of the discovery, to the bit.
    ours = {Path(image["path"]).name: image["class_id"] - 3 for image in images}
    theirs = {Path(image).name: cluster for image, cluster in clusters.items()}
    pairs = zip(table.id[train], table.joint_heads[0][train], strict=True)
    joint = {Path(image).name: predicted for image, predicted in pairs}
    assert {name: c + 3 for name, c in ours.items()} == joint
    assert theirs.keys() == ours.keys()
    vectors = next((photographs.parent / "vectors").glob("novel-*.parquet"))
    assert main(["predict", str(photographs), str(vectors), "--out", "v.json"]) == 0
    again = json.loads((tmp_path / "v.json").read_text())["images"]
    assert [image["class_id"] for image in again] == [image["class_id"] for image in images]


def test_files_that_are_left_out_and_repeated_images_are_named(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("known", "novel"):
        shutil.copytree(folders / name, tmp_path / name)
    (tmp_path / "novel" / "IMG_1.HEIC").write_bytes(b"")
    (tmp_path / "novel" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(tmp_path / "known" / "red" / "red-0.png", tmp_path / "novel" / "copy.png")
    arguments = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "novel")]
    arguments += ["--num-novel", "2", "--image-size", "64", "--runtime", "torch"]
    arguments += ["--method", "whitened_kmeans", "--out", str(tmp_path / "run")]
    assert main(["discover", *arguments]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "1 file is not an image by the suffix" in said
    assert "IMG_1.HEIC" in said
    assert re.search(r"1 of \d+ images cannot be read", said)
    assert "novel/broken.jpg" in said
    assert "1 image has the same content as another one: novel/copy.png" in said
    assert main(["check-data", *arguments[:4], "--skip-unreadable"]) == 0
    said = "".join(capsys.readouterr())
    assert "novel/copy.png = known/red/red-0.png" in said
    assert "IMG_1.HEIC" in said


def test_a_known_class_without_a_readable_image_is_refused(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folders / "known", tmp_path / "known")
    (tmp_path / "known" / "black").mkdir()
    (tmp_path / "known" / "black" / "0.jpg").write_bytes(b"no image")
    arguments = ["--known", str(tmp_path / "known"), "--novel", str(folders / "novel")]
    arguments += ["--num-novel", "2", "--image-size", "64", "--runtime", "torch"]
    assert main(["discover", *arguments, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "the classes black in --known" in said
    assert "have no image that can be read" in said
    assert not (tmp_path / "run").exists()


def test_the_exported_program_holds_backbone_and_heads(
    photographs: Path, folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt2"
    assert main(["export", str(photographs), "--format", "torch", "--out", str(out)]) == 0
    program = torch.export.load(out).module()
    files = sorted((folders / "novel").glob("*.png"))
    side = json.loads((tmp_path / "model.pt2.json").read_text())["input"]["shape"][2]
    images = np.stack([fit_square(np.asarray(Image.open(file)), side) for file in files])
    logits, probabilities, _ = program(torch.from_numpy(images))
    table = load_predictions(photographs / "predictions.parquet")
    pairs = zip(table.id, table.joint_heads[0], strict=True)
    joint = {Path(image).name: predicted for image, predicted in pairs}
    assert logits.argmax(-1).tolist() == [joint[file.name] for file in files]
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(len(files)))


def test_a_review_of_photographs_names_the_classes(photographs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["review", str(photographs), "--out", str(page)]) == 0
    assert page.read_text().count("data:image/") >= 16
    assert f'"root":"{(photographs.parents[1] / "novel").as_uri()}/"' in page.read_text()
    decisions = tmp_path / "decisions.json"
    info = RunFolder(photographs).read_info()
    decisions.write_text(
        json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "model_sha256": info.model_sha256,
                "shown_sha256": gather(photographs, torch.device("cpu")).shown_sha256,
                "classes": [
                    {"id": 3, "action": "accept", "name": "first"},
                    {"id": 4, "action": "accept", "name": "second"},
                ],
                "images": [],
            }
        )
    )
    out = tmp_path / "named"
    assert main(["apply-review", str(photographs), str(decisions), "--out", str(out)]) == 0
    named = RunFolder(out).read_info()
    assert [entry.name for entry in named.classes[3:]] == ["first", "second"]
    before, after = (load_predictions(p / "predictions.parquet") for p in (photographs, out))
    rows = before.of("train")
    assert (before.novel_heads[0][rows] == after.novel_heads[0][rows]).all()


def test_the_images_of_a_rejected_class_fit_none_of_the_classes(
    photographs: Path, folders: Path, tmp_path: Path
) -> None:
    evidence = gather(photographs, torch.device("cpu"))
    white = evidence.assigned[[name.split("/")[-1][:5] == "white" for name in evidence.images.ids]]
    assert len(set(white)) == 1
    named = applied(tmp_path, evidence, [{"id": int(white[0]), "action": "reject"}])
    out = tmp_path / "p.json"
    assert main(["predict", str(named), str(folders / "novel"), "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["images"]
    outliers = {name: [r["outlier"] for r in rows if name in r["path"]] for name in NEW}
    assert outliers == {"white": [True] * EACH, "yellow": [False] * EACH}


def test_labels_for_other_tools_hold_the_discovered_classes(
    photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.json"
    arguments = [str(photographs), "--format", "labelstudio", "--out", str(out)]
    assert main(["export", *arguments, "--root", str(photographs.parents[1])]) == 0
    tasks = json.loads(out.read_text())
    assert len(tasks) == 16, "no image is lost to a known class"
    named = {
        (
            Path(task["data"]["image"]).name.split("-")[0],
            task["predictions"][0]["result"][0]["value"]["choices"][0],
        )
        for task in tasks
    }
    assert len(named) == 2


def test_photographs_extend_a_run_without_old_images(
    photographs: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folders / "runs" / "second"
    arguments = ["--from", str(photographs), "--novel", str(folders / "known")]
    # These images are of the known classes, so the step has to be forced.
    arguments += ["--set", "discover.precheck=false"]
    assert main(["discover", *arguments, "--num-novel", "3", "--out", str(out)]) == 0
    assert len(RunFolder(out).read_info().classes) == 8
    said = capsys.readouterr()
    # The step holds no contest of its own, and takes the three folders for hidden labels.
    assert ", that of the first discovery" in said.out
    assert "contest on hidden known classes" not in said.out
    assert "3 folders of --novel are hidden labels, for accuracy only: blue, green, red" in said.err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--known", "{known}", "--num-novel", "2"], "--novel is not given"),
        (["--known", "{known}", "--novel", "{novel}"], "the number of novel classes is not given"),
        (["--known", "{known}", "--novel", "{novel}", "--pretrain"], "add --train-backbone"),
        (
            ["--from", "{run}", "--novel", "{novel}", "--num-novel", "2", "--backbone", "lite1"],
            "--backbone is lite1",
        ),
        (
            ["--known", "{known}", "--novel", "{novel}", "--num-novel", "2", "--out", "{run}"],
            "a finished run",
        ),
        (["--known", "{known}x", "--novel", "{novel}", "--num-novel", "2"], "x' does not exist"),
        (["--known", "{known}", "--novel", "{known}", "--num-novel", "2"], "contains the other"),
    ],
)
def test_refusals_come_before_any_work(
    arguments: list[str],
    wanted: str,
    photographs: Path,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"known": folders / "known", "novel": folders / "novel", "run": photographs}
    assert main(["discover", *(text.format(**places) for text in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert wanted in said
    assert said.count("\n") == 0
    assert not (tmp_path / "runs").exists()
