from __future__ import annotations

import csv
import json
import shutil
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
from crkd.review.export_images import fit_for_folders
from crkd.review.run_outputs import Evidence, gather
from crkd.runs.csv_cells import unguarded
from crkd.runs.folder import RunFolder
from crkd.runs.load import open_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def evidence(discovered: tuple[Path, Path]) -> Evidence:
    return gather(discovered[0], CPU)


def write(path: Path, evidence: Evidence, classes: list[Any], images: list[Any] = []) -> Path:  # noqa: B006
    content = {
        "format": "crkd-review",
        "version": 1,
        "model_sha256": evidence.opened.info.model_sha256,
        "classes": classes,
        "images": images,
    }
    path.write_text(json.dumps(content))
    return path


def applied(tmp_path: Path, evidence: Evidence, *decisions: list[Any], flags: tuple = ()) -> Path:
    file = write(tmp_path / "decisions.json", evidence, *decisions)
    out = tmp_path / "named"
    assert (
        run_verb(
            "apply-review", [str(evidence.opened.run.path), str(file), "--out", str(out), *flags]
        )
        == 0
    )
    return out


def answers(run: Path, images: Path) -> dict[str, tuple[int, str]]:
    out = run / "rows.csv"
    predict(run, [images], out, device=CPU, unsure=0.0)
    return {Path(row.path).name: (row.class_id, row.class_name) for row in read(out)}


def by_size(evidence: Evidence) -> list[int]:
    """Discovered classes, largest first."""
    found = found_classes(evidence)
    return [entry.id for entry in sorted(found, key=lambda e: -len(e.members))]


def test_every_decision_changes_the_answers_it_is_about_and_no_others(
    discovered: tuple[Path, Path], evidence: Evidence, tmp_path: Path
) -> None:
    images = discovered[1]
    before = answers(discovered[0], images)
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
    after = answers(named, images)
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
    entry = max(found_classes(evidence), key=lambda e: len(e.members))
    assert entry.seeds is not None
    seeds = [evidence.images.ids[row] for row in entry.seeds]
    choice = {"id": entry.id, "action": "split", "names": ["first", "second"], "seeds": seeds}
    named = applied(tmp_path, evidence, [choice], flags=("--images", "csv"))
    table = load_predictions(named / "predictions.parquet")
    train = table.of("train")
    told = dict(zip(table.id[train], table.joint_heads[0][train], strict=True))
    names = [c.name for c in RunFolder(named).read_info().classes]
    for row, later in zip(entry.members, entry.later, strict=True):
        assert names[told[evidence.images.ids[row]]] == ("second" if later else "first")
    rest = np.setdiff1d(np.arange(len(evidence.images)), entry.members)
    old = evidence.names
    assert all(names[told[evidence.images.ids[n]]] == old[evidence.answered[n]] for n in rest)
    with (named / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {Path(unguarded(row["path"])).name: row["class"] for row in rows}
    given = answers(named, discovered[1])
    assert all(labels[image] == given[image][1] for image in labels)
    assert {"first", "second"} <= set(labels.values())
    # One half may be reviewed again, but it stays whole.
    again = gather(named, CPU)
    half = next(e for e in found_classes(again) if names[e.id] in ("first", "second") and e.seeds)
    choice["id"], choice["names"] = half.id, ["x", "y"]
    choice["seeds"] = [again.images.ids[row] for row in half.seeds or ()]
    file = write(tmp_path / "again.json", again, [choice])
    assert run_verb("apply-review", [str(named), str(file), "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_moved_images_get_the_labels_that_a_person_gave(evidence: Evidence, tmp_path: Path) -> None:
    first, second, _, rejected = by_size(evidence)
    members = np.flatnonzero(evidence.answered == first)
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
    assert copies[fit_for_folders([Path(away).name])[0]].parent.name == old[second]
    assert fit_for_folders([Path(out).name])[0] not in copies
    assert not (named / "images" / old[rejected]).exists()
    novel = np.isin(evidence.answered, [c for c in range(2, 6) if c != rejected])
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
    # A further discovery takes the reviewed classes over, as its known ones, with their answers.
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
        ({"version": 2}, "has version 2"),
        ({"version": True}, "has version True"),
        ({"extra": 1}, "entries are not"),
        ({"classes": {}}, "entries are not"),
        ({"model_sha256": "0" * 64}, "another model"),
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
        ({"classes": [{**ACCEPT, "name": "A"}]}, "'A', a name that is taken"),
        ({"classes": [{**ACCEPT, "name": "novel-1"}]}, "'novel-1', a name that is taken"),
        ({"classes": [{"id": 2, "action": "merge", "into": 2}]}, "which is not accepted"),
        ({"classes": [{"id": 2, "action": "merge", "into": 0}]}, "names the class 0"),
        (
            {"classes": [{"id": n, "action": "reject"} for n in range(2, 6)]},
            "rejects every class",
        ),
        (
            {"classes": [{"id": 2, "action": "split", "names": ["x"], "seeds": ["a", "b"]}]},
            "two names and two images",
        ),
        (
            {"classes": [{"id": 2, "action": "split", "names": ["x", "y"], "seeds": ["a", "b"]}]},
            "no unlabeled image",
        ),
        ({"images": [{"id": "../../etc/passwd", "to": 2}]}, "no unlabeled image"),
        ({"images": [{"id": "x"}]}, "is not an image's 'id'"),
        ({"images": [{"id": ["x"], "to": 2}]}, "no unlabeled image"),
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
        sparse.truncate(40 * 2**20)
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


def test_folder_names_are_fit_and_different() -> None:
    names = ["..", "a/b", "a\\b", "CON", "e" * 300, "cat", "CAT", "\u00e9", "e\u0301", ".hidden"]
    places = fit_for_folders(names)
    assert len({p.casefold() for p in places}) == len(names)
    assert not any({"/", "\\"} & set(p) or p in ("", ".", "..") or p[0] == "." for p in places)
    assert max(map(len, places)) <= 130


def test_discover_goes_on_from_the_decisions(
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


def test_decisions_without_their_run_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("discover", ["--decisions", str(tmp_path / "d.json")]) == 2
    assert "--decisions is given without --from" in capsys.readouterr().err
