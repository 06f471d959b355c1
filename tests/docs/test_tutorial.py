"""The tutorials, run as they are written."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.scripts import run_script

NAMES = ("five", "six", "seven")


def steps(name: str) -> list[list[str]]:
    """Return the commands of a page in order."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(fenced).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def run_page(name: str, folder: Path, names: tuple[str, ...]) -> list[str]:
    """Run all commands of a page in a folder and return their names."""
    called = []
    for words in steps(name):
        called.append(Path(words[1]).stem)
        if called[-1] == "apply_review":
            decide(folder / words[2], folder / words[3], names)
        assert words[0] == "python"
        assert run_script(ROOT / words[1], *words[2:]) == 0, shlex.join(words)
    return called


def decide(run: Path, file: Path, names: tuple[str, ...]) -> None:
    """Save what a person would: every discovered class under a name of its own."""
    info = json.loads((run / "run.json").read_text())
    novel = [entry["id"] for entry in info["classes"] if entry["kind"] == "novel"]
    classes = [
        {"id": number, "action": "accept", "name": name}
        for number, name in zip(novel, names, strict=True)
    ]
    content = {
        "format": "crkd-review",
        "version": 1,
        "model_sha256": info["model_sha256"],
        "classes": classes,
        "images": [],
    }
    file.write_text(json.dumps(content))


@pytest.mark.slow
def test_the_tutorial_leads_from_two_folders_to_named_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page("tutorial", tmp_path, NAMES) == [
        "tutorial_images",
        "check_data",
        "discover",
        "review",
        "apply_review",
        "predict",
        "export",
    ]
    assert (tmp_path / "runs/first/review.html").stat().st_size < 25e6
    folders = {folder.name for folder in (tmp_path / "runs/named/images").iterdir()}
    assert folders == set(NAMES)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert {row["class_name"] for row in rows} <= {"zero", "one", "two", "three", "four", *NAMES}
    # Of the images kept for later, 50 show a known digit and 30 a new one.
    assert 40 <= sum(row["kind"] == "known" for row in rows) <= 60
    assert (tmp_path / "runs/named/model.pt2").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
def test_photographs_lead_to_named_classes(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRKD_DATA", str(shared_data))
    names = ("first", "second")
    assert run_page("tutorial-photographs", tmp_path, names) == [
        "tutorial_photographs",
        "check_data",
        "discover",
        "review",
        "apply_review",
        "predict",
    ]
    contest = json.loads((tmp_path / "runs/first/contest.json").read_text())
    assert len(contest["hidden"]) == 4
    folders = sorted((tmp_path / "runs/named/images").iterdir())
    assert [folder.name for folder in folders] == list(names)
    # The two novel classes are elephants and oranges: neither takes most of the images.
    assert all(20 <= len(list(folder.iterdir())) <= 40 for folder in folders)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    # 20 of the later images show a known class, 10 a novel one.
    assert 16 <= sum(row["kind"] == "known" for row in rows) <= 24
