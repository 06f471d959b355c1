"""Unlabeled images that are all new keep their novel class; the known one is a dispute."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crkd.commands.main import run_verb
from crkd.review.class_summaries import found_classes
from crkd.review.page import page_data
from crkd.review.run_outputs import Evidence, gather
from crkd.runs.csv_cells import unescape_formula
from crkd.runs.stability import read_stability, write_stability
from tests.support.disputed_images import with_disputes
from tests.support.review_decisions import write_decisions

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(evidence: Evidence) -> list[int]:
    """The surest images of two classes, and one more."""
    found = sorted(found_classes(evidence), key=lambda entry: -len(entry.members))
    return sorted([int(found[0].members[0]), int(found[0].members[1]), int(found[1].members[0])])


def test_a_disputed_image_keeps_its_novel_class(evidence: Evidence, rows: list[int]) -> None:
    disputed = with_disputes(evidence, rows, 1, mixed=False)
    before = evidence.outputs.novel[evidence.head] + evidence.num_known
    assert disputed.assigned.tolist() == before.tolist()
    assert np.flatnonzero(disputed.disputed >= 0).tolist() == rows
    assert set(disputed.disputed[rows].tolist()) == {1}
    # The confidence is that of the novel class, which is not the likeliest.
    logits = torch.from_numpy(disputed.outputs.joint_logits(disputed.head)).double()
    shares = logits.softmax(-1).numpy()[np.arange(len(before)), before]
    np.testing.assert_allclose(disputed.confidence, shares, rtol=1e-6)
    assert (disputed.confidence[rows] < 0.5).all()
    found = found_classes(disputed)
    assert sum(len(entry.members) for entry in found) == len(before), "no image is lost"


def test_with_mixed_images_the_joint_prediction_decides(
    evidence: Evidence, rows: list[int]
) -> None:
    mixed = with_disputes(evidence, rows, 1, mixed=True)
    assert mixed.assigned.tolist() == mixed.outputs.joint[mixed.head].tolist()
    assert (mixed.assigned[rows] == 1).all()
    assert (mixed.disputed == -1).all()
    assert page_data(mixed)["answered_known"] == len(rows)


def test_the_page_marks_disputed_images(evidence: Evidence, rows: list[int]) -> None:
    data = page_data(with_disputes(evidence, rows, 1, mixed=False))
    marked = {image["id"]: image["disputed"] for image in data["images"] if "disputed" in image}
    assert marked == {evidence.images.ids[row]: 1 for row in rows}
    assert data["known"][1] == "b"
    assert data["answered_known"] == 0
    classes = {image["id"]: image["class"] for image in data["images"]}
    assert all(classes[image] >= evidence.num_known for image in marked)


def test_the_table_of_labels_names_the_known_class(
    evidence: Evidence, rows: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disputed = with_disputes(evidence, rows, 1, mixed=False)
    monkeypatch.setattr("crkd.review.apply.gather", lambda *_: disputed)
    ids = evidence.images.ids
    moved = {"id": ids[rows[0]], "to": int(evidence.assigned[rows[2]])}
    file = write_decisions(tmp_path / "decisions.json", evidence, [], [moved])
    out = tmp_path / "named"
    command = [str(evidence.opened.run.path), str(file), "--out", str(out), "--images", "csv"]
    assert run_verb("apply-review", command) == 0
    with (out / "labels.csv").open(newline="") as table:
        lines = {Path(unescape_formula(row["path"])).name: row for row in csv.DictReader(table)}
    assert len(lines) == len(ids), "no image is lost"
    named = {name for name, line in lines.items() if line["disputed"] == "b"}
    assert named == {Path(ids[row]).name for row in rows[1:]}
    # A person decided on the first one.
    assert lines[Path(ids[rows[0]]).name]["decided_by"] == "person"
    assert {line["disputed"] for line in lines.values()} == {"", "b"}


def test_a_class_has_the_stability_that_its_run_measured(
    discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(discovered[0], run)
    evidence = gather(run, CPU)
    measured = {"novel-0": 0.25, "novel-2": 1.0}
    write_stability(evidence.opened.run, measured)
    assert read_stability(evidence.opened.run) == measured
    entries = {entry["name"]: entry for entry in page_data(evidence)["classes"]}
    assert entries["novel-0"]["stability"] == 0.25
    assert entries["novel-2"]["stability"] == 1.0
    # The others have that of the heads.
    assert evidence.agreement is not None
    (third,) = (entry for entry in found_classes(evidence) if entry.id == 3)
    assert third.stability == pytest.approx(evidence.agreement[third.members].mean())
