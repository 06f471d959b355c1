"""Own images and their flags are refused where they could not be used."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.data.encoded import folder
from crkd.data.encoded.listing import Listing
from crkd.stages.vectors import folders


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--set", "data.novel=new"],
            "--known is not given, and --novel 'new' is not for the data",
        ),
        (["--set", "data.known=old"], "--known 'old' is for own images, and the data set is"),
        (["--dataset", "digits", "--known", "old"], "give --dataset folder, or leave --known out"),
    ],
)
def test_own_images_are_not_ignored(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("check-data", flags) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("known", "novel", "message"),
    [
        (["ok/1.png", "ok/2.png"], ["3.png"], "known' has only images of the class 'ok'; give two"),
        (["ok/1.png", "bad/2.png", "3.png"], ["4.png"], "the image 'known/3.png' in --known"),
        (["ok/1.png", "bad/2.png"], [], "novel' holds no image"),
        (["ok/1.png", "bad/2.png"], ["3.png"], "--num-novel 2 exceeds the number of images"),
    ],
)
def test_unusable_folders_are_refused_before_an_image_is_embedded(
    known: list[str],
    novel: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "novel").mkdir()
    for name in [f"known/{file}" for file in known] + [f"novel/{file}" for file in novel]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    flags = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "novel")]
    out = tmp_path / "runs" / "first"
    assert run_verb("discover", [*flags, "--num-novel", "2", "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.parent.exists()


def test_each_folder_is_listed_once_for_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("known/cat/1.png", "known/dog/2.png", "new/3.png", "new/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    embedded: list[list[str]] = []

    def embed(images: Listing, out: Path, *_: object) -> NoReturn:
        embedded.append([images.image_id(row) for row in range(len(images))])
        raise InputError("enough")

    listed, walk = list[str](), folder.visible_files
    monkeypatch.setattr(folder, "visible_files", lambda at: listed.append(at.name) or walk(at))
    monkeypatch.setattr(folders, "embed", embed)
    flags = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "new")]
    assert run_verb("discover", [*flags, "--num-novel", "2", "--out", str(tmp_path / "a/b")]) == 2
    assert sorted(listed) == ["known", "new"]
    assert embedded == [["known/cat/1.png", "known/dog/2.png"]]


@pytest.mark.parametrize("train", [[], ["--train-backbone"]])
def test_an_empty_class_folder_is_refused_whatever_is_trained(
    train: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("cat/1.png", "dog/2.png", "fox/none.txt")
    for name in (*(f"known/{file}" for file in files), "novel/3.png", "novel/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            (tmp_path / name).write_text("no image")
        else:
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    flags = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "novel"), *train]
    out = tmp_path / "runs" / "first"
    assert run_verb("discover", [*flags, "--num-novel", "2", "--out", str(out)]) == 2
    assert "the class folders fox in --known" in capsys.readouterr().err
    assert not out.parent.exists()


def test_check_data_takes_unlabeled_images_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 2):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(
            tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
        )
    assert run_verb("check-data", ["--novel", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 images, 0 a class, 3 without a label" in said
    assert "1 of 3 images have the same pixels as another one" in said
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert run_verb("check-data", ["--novel", str(tmp_path)]) == 1
    assert "broken.png" in capsys.readouterr().out
    # A network cannot be trained on them.
    out = tmp_path / "run"
    flags = ["--dataset", "folder", "--novel", str(tmp_path), "--out", str(out)]
    assert run_verb("pretrain", flags) == 2
    assert "a network is trained with labeled images" in capsys.readouterr().err
    assert not out.exists()


def test_check_data_names_the_classes_of_own_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(["known/a/cat", "known/a/dog", "known/b", "new/may", "new/june"]):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / "1.png")
    flags = ["--known", str(tmp_path / "known"), "--novel", str(tmp_path / "new")]
    assert run_verb("check-data", flags) == 0
    said = "".join(capsys.readouterr())
    assert "2 known classes with 1 to 2 images each: a, b" in said
    assert "not the folders in them (a/cat, a/dog)" in said
    assert "used as hidden labels, only for evaluation: june, may" in said
    # Own images have no split of their own to be checked.
    assert "split" not in said
