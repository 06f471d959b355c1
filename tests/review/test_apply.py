from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.evaluation.predictions_file import load_predictions
from crkd.inference.predict import predict
from crkd.inference.table import read
from crkd.review.class_summaries import found_classes
from crkd.review.decision_entries import check_name
from crkd.review.export_images import check_files, safe_folder_names
from crkd.review.page import page_data
from crkd.review.run_outputs import Evidence, gather
from crkd.review.split_class import divide
from crkd.runs.csv_cells import unescape_formula
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run
from crkd.runs.reviewed_labels import read_labels
from tests.support.completed_files import files_at_completion, files_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def evidence(discovered: tuple[Path, Path]) -> Evidence:
    return gather(discovered[0], CPU)


def write(
    path: Path, evidence: Evidence, classes: list[Any], images: Sequence[Any] = (), version: int = 3
) -> Path:
    content = {
        "format": "crkd-review",
        "version": version,
        "model_sha256": evidence.opened.info.model_sha256,
        "classes": classes,
        "images": list(images),
    }
    if version >= 3:
        content["shown_sha256"] = evidence.shown_sha256
    path.write_text(json.dumps(content))
    return path


def applied(
    tmp_path: Path,
    evidence: Evidence,
    *decisions: list[Any],
    flags: tuple[str, ...] = (),
    version: int = 3,
) -> Path:
    file = write(tmp_path / "decisions.json", evidence, *decisions, version=version)
    out = tmp_path / "named"
    assert (
        run_verb(
            "apply-review", [str(evidence.opened.run.path), str(file), "--out", str(out), *flags]
        )
        == 0
    )
    return out


def predictions(run: Path, images: Path) -> dict[str, tuple[int, str]]:
    out = run / "rows.csv"
    predict(run, [images], out, device=CPU, unsure=0.0)
    return {Path(row.path).name: (row.class_id, row.class_name) for row in read(out)}


def by_size(evidence: Evidence) -> list[int]:
    """Discovered classes, largest first."""
    found = found_classes(evidence)
    return [entry.id for entry in sorted(found, key=lambda e: -len(e.members))]


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
    file = write(tmp_path / "again.json", again, [choice])
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
    file = write(
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


def test_decisions_of_another_review_of_the_same_model_are_refused(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_id = by_size(evidence)[0]
    rows = np.flatnonzero(evidence.assigned == class_id)[:3]
    first, second, third = (evidence.images.ids[row] for row in rows)
    named = applied(tmp_path, evidence, [], [{"id": first, "to": None}])
    before = gather(named, CPU)
    file = write(tmp_path / "moves.json", before, [], [{"id": second, "to": None}])
    again = tmp_path / "again"
    assert run_verb("apply-review", [str(named), str(file), "--out", str(again)]) == 0
    after = gather(again, CPU)
    assert after.opened.info.model_sha256 == before.opened.info.model_sha256
    out = tmp_path / "no"
    file = write(tmp_path / "late.json", before, [], [{"id": third, "to": None}])
    assert run_verb("apply-review", [str(again), str(file), "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "decides on other images or classes than those of RUN" in said
    assert not out.exists()
    # A file of version 2 does not say which page it is from.
    file = write(tmp_path / "old.json", before, [], [{"id": third, "to": None}], version=2)
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
    file = write(tmp_path / "d.json", evidence, [{"id": first, "action": "split", "parts": parts}])
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
    file = write(tmp_path / "decisions.json", evidence, [])
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
    file = write(tmp_path / "decisions.json", evidence, [])
    with file.open("ab") as sparse:
        sparse.truncate(80 * 2**20)
    monkeypatch.setattr("crkd.review.decisions.read_json", lambda _: pytest.fail("was read"))
    assert run_verb("apply-review", ["x", str(file), "--out", str(tmp_path / "named")]) == 2


def test_a_taken_folder_stays_as_it_is(
    evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "decisions.json", evidence, [])
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
    file = write(tmp_path / "d.json", evidence, [])
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
    file = write(tmp_path / "d.json", evidence, [], moves)
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


def test_an_emoji_newer_than_this_python_is_a_name() -> None:
    # U+1FAE8 is of Unicode 15, and Python 3.11 knows Unicode 14.
    for name in ("\U0001fae8", "a\u200db", "\u30b5\u30af\u30e9", "7"):
        assert check_name(name, "FILE") == name


def test_folder_names_are_fit_and_different() -> None:
    names = ["..", "a/b", "a\\b", "CON", "e" * 300, "cat", "CAT", "\u00e9", "e\u0301", ".hidden"]
    places = safe_folder_names(names)
    assert len({p.casefold() for p in places}) == len(names)
    assert not any({"/", "\\"} & set(p) or p in ("", ".", "..") or p[0] == "." for p in places)
    assert max(map(len, places)) <= 130


def test_discover_continues_from_the_decisions(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(evidence.opened.run.path, run)
    file = write(tmp_path / "d.json", evidence, [{"id": 2, "action": "accept", "name": "apple"}])
    command = ["--from", str(run), "--decisions", str(file)]
    assert run_verb("discover", command) == 0
    named = tmp_path / "run-reviewed"
    assert "apple" in [entry.name for entry in RunFolder(named).read_info().classes]
    seen: list[Path] = []

    def further(config: Any, out: Path, parent: Path, **options: Any) -> RunFolder:
        seen.append(parent)
        return RunFolder(named)

    monkeypatch.setattr("crkd.stages.discover.run.discover", further)
    later = [*command, "--novel", str(tmp_path), "--num-novel", "1", "--out", str(tmp_path / "x")]
    assert run_verb("discover", later) == 0
    assert seen == [named], "the same decisions make one run"
    write(file, evidence, [{"id": 2, "action": "accept", "name": "pear"}])
    assert run_verb("discover", command) == 0
    assert (tmp_path / "run-reviewed-2").is_dir()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "x"], "--out needs --novel DIR; use crkd apply-review"),
        (["--num-novel", "2"], "--num-novel needs --novel DIR"),
        (["--out", "x", "--resume"], "--out needs --novel DIR"),
        (["--resume"], "--resume needs --novel DIR"),
        (["--features", "x.parquet"], "--features does not go with --decisions"),
        (["--features", "x.parquet", "--novel", "."], "--features does not go with --decisions"),
        (["--novel", "nowhere", "--num-novel", "2"], "--novel 'nowhere' does not exist"),
        (["--novel", ".", "--resume"], "--resume needs --out"),
        (["--novel", ".", "--out", "taken"], "--out taken holds files already"),
        (["--novel", ".", "--num-novel", "many"], "'discover.num_novel' is 'many'; it must be"),
        (["--novel", "."], "add --num-novel K, or --num-novel auto"),
        (["--novel", ".", "--num-novel", "2", "--set", "loop.speed=9"], "loop.speed"),
        (["--novel", ".", "--num-novel", "2", "--method", "heads"], "--backbone and --method are"),
    ],
)
def test_flags_are_checked_before_decisions_are_applied(
    evidence: Evidence,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("precious")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    monkeypatch.setattr("crkd.review.reviewed_run.named_run", lambda *_, **__: pytest.fail("works"))
    file = write(tmp_path / "d.json", evidence, [])
    command = ["--from", str(evidence.opened.run.path), "--decisions", str(file), *flags]
    assert run_verb("discover", command) == 2
    assert message in capsys.readouterr().err


def test_decisions_without_their_run_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", ["--decisions", str(tmp_path / "d.json")]) == 2
    assert "--decisions is given without --from" in capsys.readouterr().err


def test_nothing_is_written_after_the_reviewed_run_is_complete(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed afterwards leaves a whole run."""
    complete = files_at_completion(monkeypatch)
    named = applied(tmp_path, evidence, [], flags=("--images", "csv"))
    assert complete.keys() >= {"model.safetensors", "labels.csv"}
    assert files_of(named) == complete
