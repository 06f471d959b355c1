"""A review that is applied: what it changes, and what stays."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.evaluation.predictions_file import load_predictions
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.review.class_summaries import found_classes
from crkd.review.export_images import safe_folder_names
from crkd.review.page import page_data
from crkd.review.run_outputs import Evidence, gather
from crkd.review.split_class import divide
from crkd.runs.csv_cells import unescape_formula
from crkd.runs.disputed import read_probabilities
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.runs.reviewed_labels import read_labels
from tests.support.review_decisions import applied, by_size, write_decisions

CPU = torch.device("cpu")


def predictions(run: Path, images: Path) -> dict[str, tuple[int, str]]:
    out = run / "rows.csv"
    predict(run, [images], out, device=CPU, unsure=0.0)
    return {Path(row.path).name: (row.class_id, row.class_name) for row in read(out)}


def apart(evidence: Evidence, members: np.ndarray) -> np.ndarray:
    """The two images of a class that differ most, in the order of the class."""
    rows = evidence.projected[members]
    pair = np.unravel_index((rows @ rows.T).argmin(), (len(rows), len(rows)))
    return members[np.sort(pair)]


def test_every_decision_changes_its_own_predictions_and_no_others(
    discovered: tuple[Path, Path], evidence: Evidence, tmp_path: Path
) -> None:
    images = discovered[1]
    before = predictions(discovered[0], images)
    renamed, merged, target, rejected = by_size(evidence)
    named = applied(
        tmp_path,
        evidence,
        [
            {"id": renamed, "action": "accept", "name": "=r\u00f6t"},
            {"id": target, "action": "accept", "name": "both"},
            {"id": merged, "action": "merge", "into": target},
            {"id": rejected, "action": "reject"},
        ],
    )
    after = predictions(named, images)
    info = RunFolder(named).read_info()
    assert sorted(entry.name for entry in info.classes) == ["=r\u00f6t", "a", "b", "both"]
    assert "=r\u00f6t" in (named / "rows.csv").read_text()
    assert len({name for _, name in before.values()}) >= 3, "the test needs classes with images"
    for image, (class_id, name) in before.items():
        expected = {renamed: "=r\u00f6t", merged: "both", target: "both"}.get(class_id, name)
        if class_id == rejected:
            assert after[image][1] not in (name, "novel-" + str(rejected - 2))
        else:
            assert after[image][1] == expected
    both = {class_id for class_id, name in after.values() if name == "both"}
    assert len(both) == 1
    reviewed = {entry.name: list(entry.reviewed) for entry in info.classes}
    assert reviewed["both"] == sorted([merged, target])
    assert [entry.id for entry in info.classes] == [0, 1, 2, 3]


def test_a_split_divides_one_class_as_the_page_showed_it(
    evidence: Evidence, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    # A file of version 1, in which two images start the halves.
    entry = max(found_classes(evidence), key=lambda e: len(e.members))
    rows = apart(evidence, entry.members)
    seeds = [evidence.images.ids[row] for row in rows]
    later, _ = divide(
        evidence.projected[entry.members], *np.flatnonzero(np.isin(entry.members, rows))
    )
    choice = {"id": entry.id, "action": "split", "names": ["first", "second"], "seeds": seeds}
    named = applied(tmp_path, evidence, [choice], flags=("--images", "csv"), version=1)
    table = load_predictions(named / "predictions.parquet")
    train = table.of("train")
    class_of = dict(zip(table.id[train], table.joint_heads[0][train], strict=True))
    names = [c.name for c in RunFolder(named).read_info().classes]
    for row, second in zip(entry.members, later, strict=True):
        assert names[class_of[evidence.images.ids[row]]] == ("second" if second else "first")
    rest = np.setdiff1d(np.arange(len(evidence.images)), entry.members)
    old = evidence.names
    assert all(names[class_of[evidence.images.ids[n]]] == old[evidence.assigned[n]] for n in rest)
    with (named / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {Path(unescape_formula(row["path"])).name: row["class"] for row in rows}
    given = predictions(named, discovered[1])
    assert all(labels[image] == given[image][1] for image in labels)
    assert {"first", "second"} <= set(labels.values())
    # One half may be reviewed again, but it stays whole.
    again = gather(named, CPU)
    halves = [e for e in found_classes(again) if names[e.id] in ("first", "second")]
    half = max(halves, key=lambda e: len(e.members))
    choice["id"], choice["names"] = half.id, ["x", "y"]
    choice["seeds"] = [again.images.ids[row] for row in apart(again, half.members)]
    file = write_decisions(tmp_path / "again.json", again, [choice])
    assert run_verb("apply-review", [str(named), str(file), "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_parts_of_a_split_go_where_a_person_puts_them(evidence: Evidence, tmp_path: Path) -> None:
    target, split, *_ = sorted(by_size(evidence), key=lambda c: -(evidence.assigned == c).sum())
    ids, members = evidence.images.ids, np.flatnonzero(evidence.assigned == split)
    parts = [[ids[row] for row in members[start::3]] for start in range(3)]
    moved = ids[np.flatnonzero(evidence.assigned == target)[0]]
    parts[0].append(moved)
    choice = {
        "id": split,
        "action": "split",
        "parts": [
            {"name": "first", "images": parts[0]},
            {"into": target, "images": parts[1]},
            {"into": 0, "images": parts[2]},
        ],
    }
    other = next(c for c in range(2, 6) if c not in (target, split))
    merge = {"id": other, "action": "merge", "into": split, "part": 0}
    named = applied(
        tmp_path,
        evidence,
        [choice, merge],
        [{"id": moved, "to": split}],
        flags=("--images", "csv"),
    )
    names = [c.name for c in RunFolder(named).read_info().classes]
    assert names[:2] == ["a", "b"]
    assert "first" in names
    assert len(names) == 5
    labels, people = labels_of(named)
    assert {labels[image] for image in parts[0]} == {"first"}
    assert {labels[image] for image in parts[1]} == {evidence.names[target]}
    assert {labels[image] for image in parts[2]} == {"a"}
    merged = [ids[row] for row in np.flatnonzero(evidence.assigned == other)]
    assert {labels[image] for image in merged} == {"first"}
    assert people == {moved}
    with (named / "labels.csv").open(newline="") as file:
        table = {Path(unescape_formula(r["path"])).name: r for r in csv.DictReader(file)}
    assert {name: row["class"] for name, row in table.items()} == {
        Path(image).name: name for image, name in labels.items() if name
    }
    assert [name for name, row in table.items() if row["decided_by"] == "person"] == [
        Path(moved).name
    ]


def labels_of(run: Path) -> tuple[dict[str, str | None], set[str]]:
    """Class of every image after a review, and the images that a person decided one by one."""
    names = [c.name for c in RunFolder(run).read_info().classes]
    labels = read_labels(RunFolder(run))
    return (
        {i: None if one.class_id is None else names[one.class_id] for i, one in labels.items()},
        {image for image, one in labels.items() if one.by_person},
    )


def test_a_class_merged_into_a_known_one_is_predicted_as_it(
    evidence: Evidence, discovered: tuple[Path, Path], tmp_path: Path
) -> None:
    merged = by_size(evidence)[0]
    named = applied(tmp_path, evidence, [{"id": merged, "action": "merge", "into": 1}])
    before, after = predictions(discovered[0], discovered[1]), predictions(named, discovered[1])
    for image, (class_id, name) in before.items():
        assert after[image][1] == ("b" if class_id == merged else name)
    out = tmp_path / "labels.json"
    command = [str(named), "--format", "fiftyone", "--out", str(out)]
    assert run_verb("export", command) == 0
    content = json.loads(out.read_text())
    labels = {Path(k).name: content["classes"][v["label"]] for k, v in content["labels"].items()}
    assert labels == {image: name for image, (_, name) in after.items()}


def test_labels_for_other_tools_are_those_of_the_person(evidence: Evidence, tmp_path: Path) -> None:
    first, second, *_ = by_size(evidence)
    members = np.flatnonzero(evidence.assigned == first)
    away, out, home = (evidence.images.ids[row] for row in members[:3])
    moves = [{"id": away, "to": second}, {"id": out, "to": None}, {"id": home, "to": 0}]
    named = applied(tmp_path, evidence, [], moves)
    file = tmp_path / "tasks.json"
    command = [str(named), "--format", "labelstudio", "--out", str(file), "--root", "/"]
    assert run_verb("export", command) == 0
    tasks = {Path(task["data"]["path"]).name: task for task in json.loads(file.read_text())}
    choice = {
        name: task["predictions"][0]["result"][0]["value"]["choices"][0]
        for name, task in tasks.items()
    }
    assert choice[Path(away).name] == evidence.names[second]
    assert choice[Path(home).name] == "a"
    assert Path(out).name not in tasks
    people = {name for name, task in tasks.items() if task["data"]["decided_by"] == "person"}
    assert people == {Path(away).name, Path(home).name}


def test_a_later_review_keeps_what_a_person_decided(evidence: Evidence, tmp_path: Path) -> None:
    first, second, merged, _ = by_size(evidence)
    members = np.flatnonzero(evidence.assigned == first)
    away, home, out = (evidence.images.ids[row] for row in members[:3])
    moves = [{"id": away, "to": second}, {"id": home, "to": 0}, {"id": out, "to": None}]
    named = applied(tmp_path, evidence, [{"id": merged, "action": "merge", "into": 1}], moves)
    before, people = labels_of(named)
    again = gather(named, CPU)
    for image, assigned in zip(again.images.ids, again.assigned, strict=True):
        assert image == out or again.names[assigned] == before[image]
    entries = {image["id"]: image for image in page_data(again)["images"]}
    assert {i for i, one in entries.items() if one.get("decided")} == people == {away, home, out}
    assert [i for i, one in entries.items() if one.get("out")] == [out]
    # A second review renames a class and moves another image; the rest stays.
    other = evidence.images.ids[members[3]]
    renamed = before[other]
    target = again.names.index(renamed)
    file = write_decisions(
        tmp_path / "again.json",
        again,
        [{"id": target, "action": "accept", "name": "new"}],
        [{"id": other, "to": None}],
    )
    place = tmp_path / "second"
    assert run_verb("apply-review", [str(named), str(file), "--out", str(place)]) == 0
    after, people = labels_of(place)
    expected = {i: "new" if name == renamed else name for i, name in before.items()}
    assert after == {**expected, other: None}
    assert people == {away, home, out, other}
    # The notes count the images of the file next to them.
    noted = [note for note in RunFolder(place).read_info().notes if "see disputed.csv" in note]
    assert [note.split()[0] for note in noted] == [f"{len(read_probabilities(RunFolder(place)))}"]


def test_decisions_of_another_review_of_the_same_model_are_refused(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_id = by_size(evidence)[0]
    rows = np.flatnonzero(evidence.assigned == class_id)[:3]
    first, second, third = (evidence.images.ids[row] for row in rows)
    named = applied(tmp_path, evidence, [], [{"id": first, "to": None}])
    before = gather(named, CPU)
    file = write_decisions(tmp_path / "moves.json", before, [], [{"id": second, "to": None}])
    again = tmp_path / "again"
    assert run_verb("apply-review", [str(named), str(file), "--out", str(again)]) == 0
    after = gather(again, CPU)
    assert after.opened.info.model_sha256 == before.opened.info.model_sha256
    out = tmp_path / "no"
    file = write_decisions(tmp_path / "late.json", before, [], [{"id": third, "to": None}])
    assert run_verb("apply-review", [str(again), str(file), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "decides on other images or classes than those of RUN" in said
    assert not out.exists()
    # A file of version 2 does not say which page it is from.
    file = write_decisions(
        tmp_path / "old.json", before, [], [{"id": third, "to": None}], version=2
    )
    assert run_verb("apply-review", [str(again), str(file), "--out", str(out)]) == 0
    assert {i for i, label in read_labels(RunFolder(out)).items() if label.taken_out} == {
        first,
        second,
        third,
    }


def test_images_of_a_part_must_be_of_the_class(evidence: Evidence, tmp_path: Path) -> None:
    first, second, *_ = by_size(evidence)
    foreign = evidence.images.ids[np.flatnonzero(evidence.assigned == second)[0]]
    own = [evidence.images.ids[row] for row in np.flatnonzero(evidence.assigned == first)[:2]]
    parts = [{"name": "x", "images": [own[0]]}, {"name": "y", "images": [own[1], foreign]}]
    file = write_decisions(
        tmp_path / "d.json", evidence, [{"id": first, "action": "split", "parts": parts}]
    )
    command = [str(evidence.opened.run.path), str(file), "--out", str(tmp_path / "no")]
    assert run_verb("apply-review", command) == 2
    assert not (tmp_path / "no").exists()


def test_moved_images_get_the_labels_that_a_person_gave(evidence: Evidence, tmp_path: Path) -> None:
    first, second, _, rejected = by_size(evidence)
    members = np.flatnonzero(evidence.assigned == first)
    away, out = (evidence.images.ids[row] for row in members[:2])
    named = applied(
        tmp_path,
        evidence,
        [{"id": rejected, "action": "reject"}],
        [{"id": away, "to": second}, {"id": out, "to": None}],
        flags=("--images", "folder"),
    )
    copies = {p.name.split("-", 1)[1]: p for p in (named / "images").rglob("*.png")}
    old = evidence.names
    assert copies[safe_folder_names([Path(away).name])[0]].parent.name == old[second]
    assert safe_folder_names([Path(out).name])[0] not in copies
    assert not (named / "images" / old[rejected]).exists()
    novel = np.isin(evidence.assigned, [c for c in range(2, 6) if c != rejected])
    assert len(copies) == novel.sum() - 1
    assert all(Image.open(path).size == (18, 18) for path in copies.values())


def test_the_new_run_is_a_run_like_any_other(evidence: Evidence, tmp_path: Path) -> None:
    target, merged, *_ = by_size(evidence)
    others = [c for c in range(2, 6) if c not in (target, merged)]
    kept = [{"id": c, "action": "accept", "name": f"color {c}"} for c in [*others, target]]
    merge = {"id": merged, "action": "merge", "into": target}
    named = applied(tmp_path, evidence, [*kept, merge])
    assert evidence.opened.run.read_info().model_sha256 == evidence.opened.info.model_sha256
    out = tmp_path / "again.html"
    assert run_verb("review", [str(named), "--out", str(out)]) == 0
    assert "3 discovered classes" in out.read_text()
    assert run_verb("evaluate", [str(named)]) == 0
    # A further discovery takes the reviewed classes as its known ones, with their predictions.
    folder = Path(evidence.opened.config.data.novel or "")
    flags = ["--from", str(named), "--novel", str(folder), "--num-novel", "2"]
    more = ["--out", str(tmp_path / "next"), "--set", "discover.epochs=1"]
    assert run_verb("discover", [*flags, *more]) == 0
    following = open_run(tmp_path / "next", CPU)
    assert following.info.num_known == 5
    assert following.architecture.reviews == open_run(named, CPU).architecture.reviews
    names = [entry.name for entry in following.info.classes]
    assert len(set(names)) == 7
