"""Groups of runs: means, deviations, paired differences and names, against NumPy and SciPy."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from scipy import stats

from crkd.core.errors import InputError
from crkd.evaluation.comparison import Entry, grouped, metrics_of, references, value_text
from crkd.evaluation.comparison_tables import (
    difference_tables,
    group_tables,
    latex_table,
    latex_text,
    legend,
    sections,
)

NOVEL = "task_aware/train/novel"


def entry(method: str, seed: int, value: float | None, **more: Any) -> Entry:
    settings = {"discover.epochs": 5, "pretrain.epochs": 3, **more.pop("settings", {})}
    values: dict[str, Any] = {
        "name": f"{method}-{seed}-{settings}",
        "kind": "run",
        "data": {"dataset": "digits", "split": "5-5", "split.known": "abc"},
        "scores": {NOVEL: value},
        **more,
    }
    return Entry(method=method, seed=seed, settings=settings, **values)


def shown(*tables: Table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get()


def test_mean_deviation_and_number_of_each_group() -> None:
    random = np.random.default_rng(0)
    values = {name: random.random(5) for name in ("ours", "kmeans")}
    entries = [entry(name, s, v) for s in range(5) for name, vs in values.items() for v in [vs[s]]]
    groups = grouped(entries)
    assert [group.name for group in groups] == ["ours", "kmeans"]
    for group in groups:
        found = group.statistic(NOVEL)
        assert found is not None
        assert found.mean == pytest.approx(values[group.name].mean())
        assert found.std == pytest.approx(values[group.name].std(ddof=1))
        assert found.n == 5


def test_paired_differences_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 6))
    # Another order, and a seed that only one group has.
    mine = [entry("b", seed, first[seed]) for seed in (3, 1, 0, 5, 2, 4)]
    others = [entry("a", seed, second[seed]) for seed in range(6)] + [entry("a", 9, 0.1)]
    reference, group = grouped([*others, *mine])
    found = group.minus(reference, NOVEL)
    test = stats.ttest_rel(first, second)
    interval = test.confidence_interval(0.95)
    assert found is not None
    assert found.n == 6
    assert found.mean == pytest.approx((first - second).mean())
    assert found.std == pytest.approx((first - second).std(ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    back = reference.minus(group, NOVEL)
    assert back is not None
    assert back.high == pytest.approx(-interval.low)


def test_one_run_has_no_deviation_and_one_pair_no_interval() -> None:
    groups = grouped([entry("a", 0, 0.5), entry("b", 0, 0.625)])
    assert [group.statistic(NOVEL).std for group in groups] == [None, None]  # type: ignore[union-attr]
    pair = groups[1].minus(groups[0], NOVEL)
    assert pair is not None
    assert (pair.mean, pair.std, pair.n, pair.low) == (0.125, None, 1, None)
    text = shown(*group_tables(groups), *difference_tables(groups, groups[0]))
    assert "±" not in text
    assert "+12.5 (1)" in text


def test_a_metric_of_some_runs_says_of_how_many() -> None:
    groups = grouped([entry("a", seed, value) for seed, value in enumerate((0.5, 0.7, None))])
    assert groups[0].statistic(NOVEL).n == 2  # type: ignore[union-attr]
    assert "60.0 ± 14.1 (2)" in shown(*group_tables(groups))
    assert r"60.0 \pm 14.1\;(n=2)" in latex_table(groups)
    single = grouped([entry("a", seed, value) for seed, value in enumerate((0.5, None, None))])
    assert "50.0 (1)" in shown(*group_tables(single))


def test_no_group_has_two_methods_configurations_splits_or_kinds() -> None:
    entries = [
        entry("ours", 0, 0.1),
        entry("uno", 0, 0.2),
        entry("ours", 0, 0.3, settings={"discover.epochs": 6}),
        entry("ours", 0, 0.4, settings={"discover.distillation": [{"name": "kd"}]}),
        entry("ours", 0, 0.5, data={"dataset": "digits", "split": "5-5", "split.known": "d"}),
        entry("ours", 0, 0.6, kind="plan", scores={"final/all": 0.6}),
    ]
    random = np.random.default_rng(2)
    for _ in range(20):
        order = random.permutation(len(entries))
        groups = grouped([entries[n] for n in order])
        assert len(groups) == len(entries)
        assert len({group.name for group in groups}) == len(entries)
        assert all(len(group.entries) == 1 for group in groups)
    other_seed = entry("ours", 1, 0.7, settings={"discover.epochs": 6})
    assert [len(g.entries) for g in grouped([*entries, other_seed])] == [1, 1, 2, 1, 1, 1]


def test_a_name_has_the_method_and_the_settings_that_differ() -> None:
    same = {"discover.average": 0.9}
    groups = grouped(
        [
            entry("ours", 0, 0.1, settings={**same, "discover.assignment.epsilon": 0.05}),
            entry("ours", 0, 0.1, settings={**same, "discover.assignment.epsilon": 0.1}),
            entry("ours", 0, 0.1, settings={**same, "pretrain.epochs": 9}),
        ]
    )
    # Both stages have epochs.
    assert [group.name for group in groups] == [
        "ours, pretrain.epochs=3, epsilon=0.05",
        "ours, pretrain.epochs=3, epsilon=0.1",
        "ours, pretrain.epochs=9",
    ]
    many = [entry("a", 0, 0.1, settings={f"k{n}": v for n in range(6)}) for v in (1, 2)]
    assert grouped(many)[1].name == "a, k0=2, k1=2, k2=2, k3=2, and 2 more"
    labeled = [entry("a", 0, 0.1, label="mine"), entry("b", 1, 0.3, label="mine")]
    assert [group.name for group in grouped(labeled)] == ["mine"]


def test_two_runs_of_one_seed_are_refused() -> None:
    with pytest.raises(InputError, match=r"seed 3, which would count twice; leave one"):
        grouped([entry("a", 3, 0.1), entry("b", 3, 0.1), entry("a", 3, 0.2)])


def test_differences_refer_to_a_group_of_the_same_data() -> None:
    other = {"dataset": "cifar100", "split": "80-20"}
    entries = [
        entry("a", 0, 0.1),
        entry("b", 0, 0.2),
        entry("a", 0, 0.3, data=other),
        entry("b", 0, 0.4, data=other),
    ]
    groups = grouped(entries)
    first = [reference.entries[0] for reference in references(groups).values()]
    assert [entries.index(e) for e in first] == [0, 0, 2, 2]
    chosen = [reference.entries[0] for reference in references(groups, entries[1]).values()]
    assert [entries.index(e) for e in chosen] == [1, 1, 2, 2]
    assert groups[2].minus(groups[0], NOVEL) is None


def test_sections_are_the_protocols_and_no_oracle() -> None:
    scores = {
        "kmeans_pixels/task_aware/train/novel": 0.1,
        "supervised/test/known": 0.2,
        "joint_hungarian/train/old": 0.3,
        "task_aware/train/novel": 0.4,
        "oracle/task_aware/train/novel": 0.9,
        "a_new_protocol/test/all": 0.5,
        "task_agnostic/test/all": None,
    }
    groups = grouped([entry("a", 0, 0.0, scores=scores)])
    assert "task_agnostic/test/all" not in metrics_of(groups)
    found = [(section.title, list(section.columns.values())) for section in sections(groups)]
    assert found == [
        ("task-aware", ["train novel"]),
        ("joint Hungarian", ["train old"]),
        ("known head alone", ["test known"]),
        ("a new protocol", ["test all"]),
        ("k-means pixels, task-aware", ["train novel"]),
    ]
    assert "90.0" not in shown(*group_tables(groups)) + latex_table(groups)


def test_seeds_of_the_legend() -> None:
    groups = grouped([entry("[a]", seed, 0.5) for seed in (7, 0, 2, 1, 4)])
    assert "0-2, 4, 7" in shown(legend(groups))
    assert "[a]" in shown(legend(groups))


def test_latex_takes_every_text_as_text(tmp_path: Path) -> None:
    assert latex_text("a_b & 5% #1 $x$ {y} ~ ^ \\end <z>") == (
        r"a\_b \& 5\% \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}end \textless{}z\textgreater{}"
    )
    groups = grouped([entry("uno_v2 & co", s, 0.5 + s / 8) for s in (0, 1)])
    text = latex_table(groups)
    assert r"uno\_v2 \& co & 2 & $56.2 \pm 8.8$ \\" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {2}
    if shutil.which("pdflatex"):
        page = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text
        (tmp_path / "t.tex").write_text(page + r"\end{document}")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0


def test_values_in_names() -> None:
    values = [1e-05, True, None, [], [0.5, "a"], {"recipe": "large", "options": {"rotation": 15}}]
    assert [value_text(value) for value in values] == [
        *("1e-05", "true", "null", "[]", "[0.5, a]", "large(options={rotation=15})"),
    ]
    assert math.isclose(float(value_text(0.1)), 0.1)
