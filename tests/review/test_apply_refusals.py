"""Decisions that are refused, before anything is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crkd.commands.main import run_verb
from crkd.review.export_images import check_files
from crkd.review.run_outputs import Evidence
from crkd.runs.folder import RunFolder
from tests.support.review_decisions import applied, by_size, write_decisions

ACCEPT = {"id": 2, "action": "accept", "name": "x"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "holds no decisions"),
        ({"version": 4}, "has version 4"),
        ({"version": 2}, "entries are not"),
        ({"version": True}, "has version True"),
        ({"extra": 1}, "entries are not"),
        ({"classes": {}}, "entries are not"),
        ({"model_sha256": "0" * 64}, "another model"),
        ({"shown_sha256": "0" * 64}, "other images or classes"),
        ({"shown_sha256": None}, "other images or classes"),
        ({"classes": ["x"]}, "classes[0] has no action"),
        ({"classes": [{"id": 2, "action": "explode"}]}, "has no action of accept"),
        ({"classes": [{"id": 2, "action": ["accept"]}]}, "has no action of accept"),
        ({"classes": [{**ACCEPT, "more": 1}]}, "give exactly these"),
        ({"classes": [{**ACCEPT, "id": 1}]}, "names the class 1"),
        ({"classes": [{**ACCEPT, "id": 6}]}, "names the class 6"),
        ({"classes": [{**ACCEPT, "id": True}]}, "names the class True"),
        ({"classes": [{**ACCEPT, "id": 2.0}]}, "names the class 2.0"),
        ({"classes": [ACCEPT, ACCEPT]}, "decides twice on class 2"),
        ({"classes": [{**ACCEPT, "name": 5}]}, "gives 5 as a name"),
        ({"classes": [{**ACCEPT, "name": " \t"}]}, "a name of 0 characters"),
        ({"classes": [{**ACCEPT, "name": "x" * 101}]}, "a name of 101 characters"),
        ({"classes": [{**ACCEPT, "name": "a\nb"}]}, "U+000A"),
        ({"classes": [{**ACCEPT, "name": "a\u202eb"}]}, "U+202E"),
        ({"classes": [{**ACCEPT, "name": "\ud800"}]}, "U+D800"),
        ({"classes": [{**ACCEPT, "name": "\u200d"}]}, "without a visible character"),
        ({"classes": [{**ACCEPT, "name": "\u2800"}]}, "without a visible character"),
        ({"classes": [{**ACCEPT, "name": "\u3164 \ufe0f"}]}, "without a visible character"),
        ({"classes": [{**ACCEPT, "name": "A"}]}, "'A', a name that is taken"),
        ({"classes": [{**ACCEPT, "name": "novel-1"}]}, "'novel-1', a name that is taken"),
        ({"classes": [{"id": 2, "action": "merge", "into": 2}]}, "which is not accepted"),
        ({"classes": [{"id": 2, "action": "merge", "into": 9}]}, "names the class 9"),
        ({"classes": [{"id": 2, "action": "merge", "into": 3, "part": 0}]}, "not accepted"),
        ({"classes": [{"id": 2, "action": "merge", "into": 3, "part": "x"}]}, "the part 'x'"),
        (
            {"classes": [{"id": n, "action": "reject"} for n in range(2, 6)]},
            "rejects every class",
        ),
        (
            {"classes": [{"id": n, "action": "merge", "into": 0} for n in range(2, 6)]},
            "merges all into known ones",
        ),
        ({"classes": [{"id": 2, "action": "split", "parts": [{}]}]}, "at least two parts"),
        ({"classes": [{"id": 2, "action": "split", "parts": [{}, {}]}]}, "parts[0] is not"),
        (
            {"classes": [{"id": 2, "action": "split", "parts": [{"name": "x", "images": []}] * 2}]},
            "names no images",
        ),
        (
            {"classes": [{"id": 2, "action": "split", "names": ["x"], "seeds": ["a", "b"]}]},
            "two names and two images",
        ),
        (
            {"classes": [{"id": 2, "action": "split", "names": ["x", "y"], "seeds": ["a", "b"]}]},
            "not an unlabeled image",
        ),
        ({"images": [{"id": "../../etc/passwd", "to": 2}]}, "not an unlabeled image"),
        ({"images": [{"id": "x"}]}, "is not an image's 'id'"),
        ({"images": [{"id": ["x"], "to": 2}]}, "not an unlabeled image"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(
    evidence: Evidence,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: evidence)
    file = write_decisions(tmp_path / "decisions.json", evidence, [])
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    out = tmp_path / "named"
    command = [str(evidence.opened.run.path), str(file), "--out", str(out)]
    assert run_verb("apply-review", command) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff{}", b"[]", b"null"])
def test_what_is_no_json_object_is_refused(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: evidence)
    file = tmp_path / "decisions.json"
    file.write_bytes(content)
    assert run_verb("apply-review", ["x", str(file), "--out", str(tmp_path / "named")]) == 2


def test_a_large_file_is_not_read(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: evidence)
    file = write_decisions(tmp_path / "decisions.json", evidence, [])
    with file.open("ab") as sparse:
        sparse.truncate(80 * 2**20)
    monkeypatch.setattr("crkd.review.decisions.read_json", lambda _: pytest.fail("was read"))
    assert run_verb("apply-review", ["x", str(file), "--out", str(tmp_path / "named")]) == 2


def test_a_taken_folder_stays_as_it_is(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_decisions(tmp_path / "decisions.json", evidence, [])
    out = tmp_path / "named"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    command = [str(evidence.opened.run.path), str(file), "--out", str(out)]
    assert run_verb("apply-review", command) == 2
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    said = capsys.readouterr().err
    assert f"--out {out} holds files already" in said
    assert "--resume" not in said, "the command has no such flag"
    shutil.rmtree(out)


def test_a_missing_image_is_named_before_a_folder_is_written(
    evidence: Evidence,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A run on vectors needs no image but for the copies. Here, what was read before remains.
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: evidence)
    row = int(np.flatnonzero(evidence.assigned >= evidence.num_known)[0])
    image = evidence.images.source.file(int(evidence.images.indices[row]))
    assert image is not None
    file = write_decisions(tmp_path / "d.json", evidence, [])
    out = tmp_path / "named"
    command = [str(evidence.opened.run.path), str(file), "--out", str(out), "--images", "folder"]
    image.rename(tmp_path / "away.png")
    try:
        assert run_verb("apply-review", command) == 2
        assert f"--images folder copies {image}" in capsys.readouterr().err
        assert not out.exists()
        # An image that gets no class is not needed.
        check_files(evidence.images, np.where(np.arange(len(evidence.images)) == row, -1, 2))
    finally:
        (tmp_path / "away.png").rename(image)
    assert run_verb("apply-review", command) == 0


def test_a_class_that_a_review_leaves_empty_is_refused(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = by_size(evidence)
    rows = np.flatnonzero(evidence.assigned == first)
    moves = [{"id": evidence.images.ids[row], "to": second} for row in rows]
    file = write_decisions(tmp_path / "d.json", evidence, [], moves)
    command = [str(evidence.opened.run.path), str(file), "--out", str(tmp_path / "no")]
    assert run_verb("apply-review", command) == 2
    said = capsys.readouterr().err
    assert f"leaves no image in the class '{evidence.names[first]}'; reject it or merge it" in said
    assert not (tmp_path / "no").exists()
    applied(tmp_path, evidence, [{"id": first, "action": "merge", "into": second}], moves)


def test_a_class_that_was_empty_before_the_review_may_stay(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = by_size(evidence)
    own = dataclasses.replace(evidence)
    own.__dict__["assigned"] = np.where(evidence.assigned == first, second, evidence.assigned)
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: own)
    named = applied(tmp_path, own, [])
    assert RunFolder(named).read_info().num_novel == 4
