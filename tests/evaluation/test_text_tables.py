"""Tables as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from crkd.evaluation.any_method import evaluate_outputs
from crkd.evaluation.latex import latex_text
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.table_rows import shown_protocols, table_rows
from crkd.evaluation.text_tables import CSV_COLUMNS, csv_table, latex_table
from tests.evaluation.test_evaluation_tables import example


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    return example()


def test_csv_has_every_score_and_its_source(metrics: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(metrics))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert {row["protocol"] for row in rows} == set(PROTOCOLS)
    for row in rows:
        assert row["source"] == PROTOCOLS[row["protocol"]].source
        if not row["method"]:
            score = metrics[row["protocol"]][row["part"]][row["group"]]
            assert float(row["acc"]) == score["acc"]
            assert int(row["num_images"]) == score["num_images"]
    places = [tuple(row[name] for name in CSV_COLUMNS[:4]) for row in rows]
    assert len(set(places)) == len(places)
    assert ("task_aware", "train", "novel", "kmeans_pixels") in places
    assert ("task_aware", "train", "novel", "oracle") in places
    spread = {row["method"]: row["acc_std"] for row in rows[:3]}
    assert float(spread.pop("")) == pytest.approx(0.1)
    assert spread == {"kmeans_pixels": "", "oracle": ""}


def test_cells_without_a_value_are_empty() -> None:
    metrics = example(label=[2, 2, 2, 3, 3] + [-1] * 10)
    rows = list(csv.DictReader(io.StringIO(csv_table(metrics))))
    row = next(row for row in rows if row["protocol"] == "joint_hungarian")
    assert (row["num_images"], row["acc"], row["acc_std"]) == ("0", "", "")
    assert "test all & -- & -- & -- & -- & 0" in latex_table(metrics)


def test_latex_is_one_table_of_whole_rows(metrics: dict[str, Any]) -> None:
    text = latex_table(metrics)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[:2] == [r"\begin{tabular}{llrrrrr}", r"\toprule"]
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    cells = [line for line in lines if line.endswith(r"\\")]
    assert {line.count(" & ") for line in cells} == {6}
    assert len(cells) == 1 + len(table_rows(metrics, variants=True))
    assert r"task-aware & train novel & $90.0 \pm 10.0$" in text
    assert r"train novel, kmeans\_pixels & $80.0$" in text
    assert not re.search(r"(?<!\\)_", "\n".join(lines))
    for entry in PROTOCOLS.values():
        assert f"% {entry.title}: {entry.source}" in text


def test_latex_prints_every_name_as_it_is() -> None:
    assert latex_text(r"a_b & 50% #1 {x} $ ~ ^ \n") == (
        r"a\_b \& 50\% \#1 \{x\} \$ \textasciitilde{} \textasciicircum{} \textbackslash{}n"
    )
    assert latex_text("two\nlines") == "two lines"


def test_variants_are_shown_for_generalized_category_discovery_or_on_request() -> None:
    plain, mixed = example(), example(label=[2, 2, 0, 3, 1, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3])
    always = [key for key, entry in PROTOCOLS.items() if not entry.is_variant]
    assert shown_protocols(plain) == always
    assert shown_protocols(plain, variants=True) == list(PROTOCOLS)
    assert shown_protocols(mixed) == list(PROTOCOLS)
    places = [(row.protocol, row.part, row.group) for row in table_rows(mixed)]
    assert ("joint_hungarian", "train", "all") in places
    assert ("separate_hungarian", "train", "known") in places
    plain_places = [(row.protocol, row.part) for row in table_rows(plain)]
    assert ("joint_hungarian", "train") not in plain_places


def test_scores_of_a_file_have_the_same_tables() -> None:
    metrics = evaluate_outputs([0, 1, 2, 2], [0, 1, 1, 2], num_known=1, part="test")
    assert "test known" in latex_table(metrics)
    assert csv_table(metrics).count("\n") == 1 + len(table_rows(metrics, variants=True))
