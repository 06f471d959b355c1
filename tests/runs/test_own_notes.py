"""Notes that hold for one run alone: those that are added to a run which has begun."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from crkd.runs.folder import RunFolder, RunInfo
from tests.support import ROOT

KEPT = ROOT / "tests" / "runs" / "kept" / "schema-3"
ORIGIN = "number of novel classes taken from the ground truth of the split"
LISTS = ("notes", "own_notes")
CHANGING = ("append", "extend", "insert")


def info_of(**entries: object) -> RunInfo:
    values = json.loads((KEPT / "discovered" / "run.json").read_text())
    return RunInfo(**{**values, "classes": [], "notes": [ORIGIN], **entries})


def changes_of_notes(text: str) -> list[int]:
    """Return the lines that set, extend or delete an attribute ``notes`` or ``own_notes``."""
    found = []
    for node in ast.walk(ast.parse(text)):
        changed = node if not isinstance(node, ast.Call) else node.func
        writes = not isinstance(getattr(changed, "ctx", ast.Load()), ast.Load)
        if isinstance(node, ast.Call) and isinstance(changed, ast.Attribute):
            changed, writes = changed.value, changed.attr in CHANGING
        elif isinstance(changed, ast.Subscript):
            changed = changed.value
        if writes and isinstance(changed, ast.Attribute) and changed.attr in LISTS:
            found.append(changed.lineno)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "info.notes = [*info.notes, 'new']",
        "info.notes += ['new']",
        "self.info.notes.append('new')",
        "info.own_notes.extend(['new'])",
        "info.notes[:], other = ['new'], 1",
    ],
)
def test_a_change_of_the_notes_is_found(line: str) -> None:
    assert changes_of_notes(f"{line}\nprint(info.notes)\ncopy = [*info.notes[:1]]") == [1]


def test_a_run_that_has_begun_takes_own_notes_alone() -> None:
    """A new note on outputs, which exist only then, is therefore never inherited."""
    changing = {
        str(file.relative_to(ROOT / "crkd"))
        for file in sorted((ROOT / "crkd").rglob("*.py"))
        if changes_of_notes(file.read_text())
    }
    # The second joins the notes of an interrupted run with those of the command that resumes it.
    assert changing == {"runs/folder.py", "training/session.py"}


def test_own_notes_are_notes_that_are_not_inherited(tmp_path: Path) -> None:
    info = info_of()
    info.add_own_notes(["3 of 9 unlabeled images look like known classes"])
    RunFolder(tmp_path).write_info(info)
    read = RunFolder(tmp_path).read_info()
    assert read.notes == [ORIGIN, "3 of 9 unlabeled images look like known classes"]
    assert read.inherited_notes() == [ORIGIN]


def test_a_run_without_own_notes_lists_none(tmp_path: Path) -> None:
    """An empty list is one, so the words of no note decide."""
    RunFolder(tmp_path).write_info(info_of(notes=["may be one class: a and b"]))
    read = RunFolder(tmp_path).read_info()
    assert (read.own_notes, read.inherited_notes()) == ([], ["may be one class: a and b"])


def test_own_notes_of_an_older_run_have_its_words(tmp_path: Path) -> None:
    for name, others in {"discovered": [], "distilled": [], "reviewed": ["accept 3"]}.items():
        read = RunFolder.open(shutil.copytree(KEPT / name, tmp_path / name)).read_info()
        first, *rest = read.inherited_notes()
        assert first == ORIGIN
        assert len(rest) == len(others)
        assert all(words in note for words, note in zip(others, rest, strict=True))
        assert sorted([*read.own_notes, *read.inherited_notes()]) == sorted(read.notes)
        assert read.own_notes
