from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crkd.commands.main import run_verb
from crkd.core.errors import InputError
from crkd.models.flops import cost_of
from crkd.stages.distill import student_search
from crkd.stages.distill.evolution import evolve
from crkd.stages.distill.student_search import SPACE, SearchSettings, Trials, search_student
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config

CPU = torch.device("cpu")
QUICK = {"seeds": 1, "batch_size": 8}
# The second and the fourth have more than 170,000 parameters and no more than 2.75 million
# multiply-adds; with the last it is the other way round.
FEW = ((1, 1, 1), (1, 1, 3), (1, 5, 1), (1, 7, 1), (3, 3, 1), (5, 1, 1), (7, 1, 1), (7, 3, 1))


@pytest.fixture
def few_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """The space has eight members; looking at all 64 shows nothing more."""
    monkeypatch.setattr(student_search, "SPACE", FEW)


def toy_score(depths: tuple[int, int, int]) -> float:
    """Highest at (7, 1, 5), and falling with every step away from it."""
    return -sum(abs(a - b) for a, b in zip(depths, (7, 1, 5), strict=True))


def test_evolution_climbs_to_the_best_with_fewer_looks_than_chance():
    found = 0
    for seed in range(20):
        scores = evolve(SPACE, toy_score, population=6, sample=4, evaluations=24, seed=seed)
        assert len(scores) == 24
        assert all(scores[member] == toy_score(member) for member in scores)
        found += max(scores, key=scores.__getitem__) == (7, 1, 5)
    assert found >= 15, "24 random looks at 64 members find the best in 3 of 8 searches"


def test_a_generous_search_covers_the_space_and_looks_once_at_each():
    looked_at = []

    def score(depths: tuple[int, int, int]) -> float:
        looked_at.append(depths)
        return toy_score(depths)

    scores = evolve(SPACE, score, population=6, sample=3, evaluations=1000, seed=0)
    assert sorted(looked_at) == sorted(SPACE)
    assert set(scores) == set(SPACE)


def test_parents_are_the_best_of_their_sample_and_children_differ_in_one_stage():
    scores = evolve(SPACE, toy_score, population=5, sample=5, evaluations=12, seed=3)
    order = list(scores)
    alive = order[:5]
    for child in order[5:]:
        parent = max(alive, key=toy_score)
        assert sum(a != b for a, b in zip(child, parent, strict=True)) == 1
        alive = [*alive[1:], child]
    assert len(order) == 12


@pytest.mark.usefixtures("few_members")
def test_the_search_keeps_to_the_budget_and_ranks_by_score(stage1: Path):
    settings = SearchSettings(max_params=170_000, max_flops=2.75e6, **QUICK)
    result = search_student(stage1, settings, CPU)
    fitting = set()
    for depths in FEW:
        name = "cifar_resnet_" + "-".join(map(str, depths))
        cost = cost_of(name, image_size=8, num_classes=5)
        if cost.params <= 170_000 and cost.flops <= 2.75e6:
            fitting.add(name)
    assert 3 < len(fitting) < len(FEW)
    assert {student.name for student in result.students} == fitting
    scores = [student.similarity.score for student in result.students]
    assert scores == sorted(scores, reverse=True)
    assert "scored: the whole space" in result.notes[0]
    settings = SearchSettings(max_params=170_000, max_flops=2.75e6, evaluations=3, **QUICK)
    fewer = search_student(stage1, settings, CPU)
    assert len(fewer.students) == 3
    assert "3 of them, chosen by evolution" in fewer.notes[0]
    assert set(fewer.students) < set(result.students), "a score does not depend on the search"


def test_a_budget_too_small_names_the_smallest_network(stage1: Path):
    for kind in ("params", "flops"):
        settings = SearchSettings(**{f"max_{kind}": 1000}, **QUICK)
        with pytest.raises(InputError, match=rf"--max-{kind} 1000 .*cifar_resnet_1-1-1, has \d+"):
            search_student(stage1, settings, CPU)
    with pytest.raises(InputError, match="--batch-size is 1; give 2 or more"):
        SearchSettings(batch_size=1)


def test_scores_are_means_over_draws_and_a_net_is_not_its_own_best_student():
    data = prepare(small_config(), CPU)
    settings = [SearchSettings(seeds=n, batch_size=16) for n in (1, 3)]
    one, three = (Trials(data, "resnet8", s, CPU).similarity("resnet8") for s in settings)
    assert one.score < -0.01, "teacher and student are drawn apart"
    assert one != three
    assert three == Trials(data, "resnet8", settings[1], CPU).similarity("resnet8")


def test_a_wide_teacher_gets_wide_students():
    data = prepare(small_config(), CPU)
    trials = Trials(data, "resnet8x4", SearchSettings(**QUICK), CPU)
    assert trials.similarity("cifar_resnet_1-1-1x4").score < 0
    with pytest.raises(ValueError, match="cannot be compared"):
        trials.similarity("cifar_resnet_1-1-1")


def test_students_of_another_width_are_ranked_by_size(
    stage1: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def refuse(*arguments: object) -> None:
        raise AssertionError("there is no score to compute")

    monkeypatch.setattr(Trials, "similarity", refuse)
    monkeypatch.setattr(student_search, "SPACE", SPACE[:3])
    result = search_student(stage1, SearchSettings(wide=True), CPU)
    sizes = [student.cost.params for student in result.students]
    assert result.by_size
    assert sizes == sorted(sizes, reverse=True)
    assert result.size_ranks == [1, 2, 3]
    assert run_verb("search-student", ["--teacher", str(stage1), "--widths", "x4"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "resnet8 have length 64 and those of the students 256" in printed
    assert f"largest: {result.students[0].name}, {sizes[0]:,} parameters" in printed
    assert "score" not in printed.split("note:")[0]


@pytest.mark.usefixtures("few_members")
def test_the_command_prints_the_pick_and_writes_all(
    stage1: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = tmp_path / "students.json"
    budget = ["--max-params", "0.17M", "--evaluations", "4"]
    options = [*budget, "--seeds", "1", "--batch-size", "8", "--json", str(file)]
    assert run_verb("search-student", ["--teacher", str(stage1), *options]) == 0
    printed = capsys.readouterr().out
    written = json.loads(file.read_text())
    best = max(written["students"], key=lambda student: student["score"])
    assert written["pick"] == best["name"]
    assert len(written["students"]) == 4
    assert f"best: {best['name']}, score {best['score']:.4f}" in printed
    assert f"--student {best['name']} --method kd" in printed
    assert best["score"] == pytest.approx(best["semantic"] + best["relation"])
    largest_first = sorted(written["students"], key=lambda student: -student["params"])
    assert [student["size_rank"] for student in largest_first] == [1, 2, 3, 4]
    rows = [line.split() for line in printed.splitlines() if "cifar_resnet" in line and "│" in line]
    assert [(row[1], row[7]) for row in rows] == [
        (str(rank), str(student["size_rank"]))
        for rank, student in enumerate(written["students"], 1)
    ]


def test_the_command_refuses_in_one_sentence(stage1: Path, capsys: pytest.CaptureFixture):
    assert run_verb("search-student", ["--teacher", str(stage1), "--max-params", "1k"]) == 2
    assert "--max-params 1000 leaves no student" in capsys.readouterr().err
    assert run_verb("search-student", ["--teacher", "nowhere"]) == 2
    assert "nowhere is not a run folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_verb("search-student", ["--teacher", str(stage1), "--max-params", "many"])
    assert "'many' is not a number" in capsys.readouterr().err
