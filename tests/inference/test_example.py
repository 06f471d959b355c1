from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from crkd.commands.main import run_verb
from crkd.inference.example import RUN


def digests() -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in RUN.iterdir()}


def test_the_example_run_is_small():
    assert sum(file.stat().st_size for file in RUN.iterdir()) < 3_000_000


def test_predict_example_knows_five_digits_and_found_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    before = digests()
    assert run_verb("predict", ["--example", "--device", "cpu"]) == 0
    assert "crkd review --example" in capsys.readouterr().out
    with (tmp_path / "crkd-example" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    predictions = defaultdict(Counter)
    for row in rows:
        predictions[Path(row["path"]).name[0]][row["class_name"]] += 1
    assert sum(counts.total() for counts in predictions.values()) == 359
    known = sum(predictions[digit][digit] for digit in "01234")
    assert known / sum(predictions[digit].total() for digit in "01234") > 0.95
    best = {digit: predictions[digit].most_common(1)[0] for digit in "56789"}
    assert len({name for name, _ in best.values()}) == 5, "one class a digit"
    assert all(name.startswith("novel-") for name, _ in best.values())
    found = sum(count for _, count in best.values())
    assert found / sum(predictions[digit].total() for digit in "56789") > 0.9
    assert digests() == before, "the run in the package stays as it is"


def test_review_example_writes_into_the_current_folder_and_not_into_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    before = digests()
    assert run_verb("review", ["--example", "--device", "cpu"]) == 0
    assert (tmp_path / "crkd-example" / "review.html").stat().st_size > 50_000
    assert digests() == before


@pytest.mark.parametrize("verb", ["predict", "review"])
def test_a_run_and_the_example_together_are_refused(verb: str, capsys: pytest.CaptureFixture[str]):
    images = ["x.png"] if verb == "predict" else []
    assert run_verb(verb, ["runs/mine", *images, "--example"]) == 2
    assert "example" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "table.txt"], "names no format"),
        (["--out", "folder.csv"], "--out 'folder.csv' is a folder; name another file"),
        (["--unsure", "2"], "--unsure 2.0 is not in [0, 1]"),
        (["--batch-size", "0"], "--batch-size 0 is below 1"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_refusals_come_before_the_images_of_the_example(
    flags: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    assert run_verb("predict", ["--example", *flags]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.csv"]


@pytest.mark.parametrize("verb", ["predict", "review"])
def test_neither_a_run_nor_the_example_is_refused(verb: str, capsys: pytest.CaptureFixture[str]):
    assert run_verb(verb, []) == 2
    assert "--example" in capsys.readouterr().err
