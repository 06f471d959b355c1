"""``crkd compare``: tables, files and refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from crkd.commands.main import run_verb
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from tests.support.compared_runs import changed_run, plan_folder

EPSILON = {"discover": {"assignment": {"epsilon": 0.1}}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of runs with the seeds 0 to 2, and two of plans with the seeds 0 and 1."""
    place = tmp_path_factory.mktemp("compared")
    for seed in range(3):
        changed_run(place / f"a-seed{seed}", seed=seed, wrong=0.1)
        changed_run(place / f"=b-seed{seed}", seed=seed, wrong=0.4, settings=EPSILON)
    for seed in range(2):
        plan_folder(place / f"plan-{seed}", seed=seed, final=(0.5 + seed / 10, 0.7, 0.3))
        plan_folder(place / f"frost-{seed}", seed=seed, method="frost", final=(0.4, 0.6, 0.2))
    return place


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def matching(folders: Path, *patterns: str) -> list[str]:
    return [str(path) for pattern in patterns for path in sorted(folders.glob(pattern))]


def test_groups_of_runs_and_plans(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = matching(folders, "a-*", "=b-*", "plan-*", "frost-*")
    files = [tmp_path / name for name in ("c.json", "c.csv", "c.tex")]
    flags = [f"--{file.suffix[1:].replace('tex', 'latex')}={file}" for file in files]
    assert run_verb("compare", [*runs, *flags]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "discover, epsilon=0.05" in said
    assert "differences to: remember" in said
    assert "55.0 ± 7.1" in said
    assert "-15.0 ± 7.1 (2)" in said

    found = json.loads(files[0].read_text())
    assert "mean" not in found, "two configurations are never averaged"
    assert len(found["runs"]) == 6
    assert {run["seed"] for run in found["runs"]} == {0, 1, 2}
    assert [plan["plan"] for plan in found["plans"]] == [[4, 3, 3]] * 4
    key = "joint_hungarian/test/all"
    for group, letter in zip(found["groups"][:2], ("a", "=b"), strict=True):
        values = [
            evaluate(load_predictions(folders / f"{letter}-seed{s}" / "predictions.parquet"))
            for s in range(3)
        ]
        accuracy = np.array([v["joint_hungarian"]["test"]["all"]["acc"] for v in values])
        assert group["metrics"][key]["mean"] == pytest.approx(accuracy.mean())
        assert group["metrics"][key]["std"] == pytest.approx(accuracy.std(ddof=1))
    difference = found["groups"][1]["differences"][key]
    means = [group["metrics"][key]["mean"] for group in found["groups"][:2]]
    assert difference["mean"] == pytest.approx(means[1] - means[0])
    assert difference["n"] == 3

    with files[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_group = {(row["group"], row["metric"]): row for row in rows}
    row = by_group["discover, epsilon=0.1", key]
    assert float(row["mean"]) == means[1]
    assert float(row["difference"]) == difference["mean"]
    assert float(row["low"]) == difference["low"]
    assert (row["n"], row["pairs"], row["reference"]) == ("3", "3", "discover, epsilon=0.05")
    assert by_group["frost", "final/all"]["mean"] == "0.4"
    assert by_group["discover, epsilon=0.05", key]["reference"] == ""

    text = files[2].read_text()
    assert text.count("\\begin{table}") == 2
    assert "remember & 2 & $55.0 \\pm 7.1$" in text


def test_one_group_keeps_the_form_of_a_result_file(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    assert run_verb("compare", [*matching(folders, "a-*"), f"--json={out}"]) == 0
    found = json.loads(out.read_text())
    key = "task_aware/train/novel"
    values = [run["acc"][key] for run in found["runs"]]
    assert found["mean"][key] == pytest.approx(np.mean(values))
    assert found["std"][key] == pytest.approx(np.std(values, ddof=1))


def test_the_table_of_single_runs_is_printed_if_it_fits(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("compare", matching(folders, "?-seed0", "=b-seed0")) == 0
    assert "known + clusters" in capsys.readouterr().out
    assert run_verb("compare", matching(folders, "a-*", "=b-*")) == 0
    said = capsys.readouterr().out
    assert "known + clusters" not in said
    assert "one column for each of 6 runs is too wide here" in said


def test_the_reference_can_be_named(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = matching(folders, "a-*", "=b-*")
    assert run_verb("compare", [*runs, "--against", runs[-1]]) == 0
    assert "differences to: discover, epsilon=0.1\n" in capsys.readouterr().out
    assert run_verb("compare", [*runs, "--against", "elsewhere"]) == 2
    assert "--against 'elsewhere' is none of the runs; name one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["a-seed0"], "is the only run, which leaves nothing to compare; name at least two"),
        (["a-seed0", "a-seed*"], "seed 0, which would count twice; leave one of them out"),
        (["plan-0", "plan-*"], "seed 0, which would count twice"),
        (["a-seed0", "plan-0/step-1*"], "is not a run folder"),
    ],
)
def test_refusals(
    folders: Path,
    tmp_path: Path,
    patterns: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folders / "plan-0" / "step-1").mkdir(exist_ok=True)
    out = tmp_path / "c.json"
    assert run_verb("compare", [*matching(folders, *patterns), f"--json={out}"]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not out.exists()


def test_runs_without_any_label_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    from crkd.evaluation.predictions_file import save_predictions

    runs = [changed_run(tmp_path / f"seed{seed}", seed=seed) for seed in range(2)]
    for run in runs:
        table = load_predictions(run / "predictions.parquet")
        blank = dataclasses.replace(table, label=np.full(len(table.label), -1))
        save_predictions(blank, run / "predictions.parquet")
    assert run_verb("compare", [*map(str, runs)]) == 2
    assert "no run has a metric" in capsys.readouterr().err
