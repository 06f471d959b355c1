"""The recorded comparison of the student search, with training replaced by a formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crkd.commands.bench import _benchmark
from crkd.commands.main import run_verb


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every student that was trained; accuracy rises with its score and falls with its size."""
    names: list[str] = []

    class Formula:
        def __init__(self, epochs: int) -> None:
            assert epochs == 24

        def student(self, name: str) -> dict[str, float]:
            names.append(name)
            rank = 12 - len(names)
            values = {
                "params": 100 + rank,
                "flops": 7 * rank,
                "semantic": -rank,
                "relation": -rank / 9,
            }
            return {**values, "score": -rank * 10 / 9, "accuracy": 0.9 - rank / 100}

    monkeypatch.setattr(_benchmark("diswot"), "_Bench", Formula)
    return names


def test_correlations_are_compared_with_the_parameter_count(trained: list[str], tmp_path: Path):
    file = tmp_path / "diswot.json"
    assert run_verb("bench", ["diswot", "--device", "cpu", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert len(set(trained)) == 12
    for first, second in ((0, 1), (0, 2), (1, 2)):
        stages = [name.removeprefix("cifar_resnet_").split("-") for name in trained]
        assert len({(each[first], each[second]) for each in stages}) == 12
    by_name = {row["name"]: row for row in rows}
    score = by_name["Kendall tau with accuracy, 12 students: DisWOT score"]
    assert (score["value"], score["baseline"], score["ratio"]) == (1.0, -1.0, None)
    assert by_name["Spearman rho with accuracy, 12 students: parameter count"]["value"] == -1.0
    assert rows[-1]["value"] == rows[-1]["baseline"] == 0.9
    assert {"benchmark", "unit", "device", "versions", "commit"} <= rows[0].keys()


def test_a_stopped_run_trains_only_what_is_missing(trained: list[str], tmp_path: Path):
    file = tmp_path / "diswot.json"
    command = ["diswot", "--device", "cpu", "--json", str(file)]
    assert run_verb("bench", command) == 0
    progress = tmp_path / "diswot.students.jsonl"
    lines = progress.read_text().splitlines()
    foreign = json.dumps({**json.loads(lines[11]), "epochs": 1})
    progress.write_text("\n".join([*lines[:11], foreign]) + "\n")
    before = trained.copy()
    assert run_verb("bench", command) == 0
    assert trained == [*before, before[11]], "another schedule's line does not count"


def test_the_output_file_must_be_named(capsys: pytest.CaptureFixture):
    assert run_verb("bench", ["diswot"]) == 2
    assert "bench diswot needs --json FILE" in capsys.readouterr().err
