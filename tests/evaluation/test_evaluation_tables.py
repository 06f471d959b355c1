"""Tables as a person reads them in a terminal."""

import io

import numpy as np
import pytest
from rich.console import Console

from crkd.core.errors import InputError
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.report import evaluate
from crkd.evaluation.tables import compare_table, protocol_table


def example(**changes):
    fields = {
        "id": [str(number) for number in range(15)],
        "part": ["train"] * 5 + ["test"] * 10,
        "label": np.array([2, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]),
        "known_head": [0] * 5 + [0, 1, 1, 1] + [0] * 6,
        "novel_heads": [
            [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0],
        ],
        "joint_heads": [
            [3, 3, 3, 2, 3, 0, 0, 2, 0, 3, 1, 3, 0, 0, 1],
            [3, 3, 3, 2, 2, 0, 0, 1, 1, 3, 3, 3, 2, 2, 2],
        ],
        "confidence": [0.5] * 15,
        "class_names": ["cat", "dog", "fox", "owl"],
        "num_known": 2,
        "num_novel": 2,
        "chosen_head": 0,
        "baselines": {"kmeans_pixels": [0, 0, 1, 1, 1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1]},
    }
    return evaluate(Predictions(**{**fields, **changes}))


def rendered(table, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    text = console.file.getvalue()
    assert all(len(line.rstrip("\n")) <= width for line in text.splitlines())
    return text


def line_of(text, *words):
    return next(line for line in text.splitlines() if all(word in line for word in words))


def test_metrics_are_percent_with_spread():
    text = rendered(protocol_table(example(), title="digits 5-5"))
    assert "digits 5-5" in text
    # Heads: 4 of 5 and 5 of 5.
    assert "90.0 ±10.0" in line_of(text, "train novel")
    # Heads: 4 of 10 and 10 of 10.
    assert "70.0 ±30.0" in line_of(text, "test all")
    for title in ("task-aware", "task-agnostic", "joint Hungarian", "known head alone"):
        assert title in text


def test_known_head_has_no_spread():
    text = rendered(protocol_table(example()))
    line = text[text.index("known head alone") :].splitlines()[1]
    assert "75.0" in line
    assert "±" not in line


def test_baselines_have_the_same_protocol():
    lines = rendered(protocol_table(example())).splitlines()
    position = next(number for number, line in enumerate(lines) if "train novel" in line)
    assert "k-means pixels" in lines[position + 1]
    # Clusters 0, 0, 1 | 1, 1 against fox, fox, fox | owl, owl: 4 of 5.
    assert "80.0" in lines[position + 1]


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off(width):
    text = rendered(protocol_table(example(), title="cifar100 50-50"), width)
    assert "…" not in text
    assert "images" in text


def test_missing_labels_are_said():
    metrics = example(label=np.full(15, -1))
    assert "no labels" in line_of(rendered(protocol_table(metrics)), "train novel")
    assert "None" not in rendered(protocol_table(metrics))


def test_supervised_run_shows_its_one_protocol():
    empty = np.zeros((0, 15), np.int32)
    metrics = example(novel_heads=empty, joint_heads=empty, chosen_head=None, baselines={})
    text = rendered(protocol_table(metrics))
    assert "known head alone" in text
    assert "task-agnostic" not in text


def test_runs_side_by_side():
    worse = example(novel_heads=[[0] * 15, [0] * 15], baselines={})
    blank = example(label=np.full(15, -1))
    text = rendered(compare_table({"runs/a": example(), "runs/[b]": worse, "blank": blank}))
    assert "runs/[b]" in text
    train = line_of(text, "train novel")
    assert "90.0 ±10.0" in train
    assert "60.0 ±0.0" in train
    assert "no labels" in train
    baseline = text[text.index("k-means pixels") :].splitlines()[1].split()
    assert baseline == ["train", "novel", "80.0", "-", "no", "labels"]
    assert "2 + 2" in text


def test_metrics_of_an_earlier_version_have_no_cell_of_a_later_protocol():
    earlier = example()
    for tree in (earlier, earlier["spread_over_heads"]):
        tree.pop("joint_hungarian")
    earlier.pop("baselines")
    text = rendered(compare_table({"earlier": earlier, "now": example()}))
    lines = text.splitlines()
    title = next(n for n, line in enumerate(lines) if "joint Hungarian" in line)
    assert lines[title + 1].split()[:3] == ["test", "all", "no"]
    assert "k-means" in text


def test_best_run_is_bold():
    worse = example(novel_heads=[[0] * 15, [0] * 15])
    table = compare_table({"worse": worse, "better": example()})
    cells = {column: list(table.columns[column]._cells)[1] for column in (1, 2)}
    assert (cells[1].style, cells[2].style) == ("", "bold")


def test_other_measures_and_mistakes():
    text = rendered(compare_table({"a": example()}, measure="nmi"))
    assert "NMI" in text
    with pytest.raises(InputError, match="'speed'"):
        compare_table({"a": example()}, measure="speed")
    with pytest.raises(InputError, match="at least one run"):
        compare_table({})


def test_the_oracle_is_marked_as_such():
    text = " ".join(rendered(protocol_table(example())).split())
    # Heads: 4 of 5 and 5 of 5 on training images; the second is the better one.
    assert text.count("oracle head 100.0") == 3
    assert "Oracle head: chosen by hidden labels, only for comparison; nothing uses it." in text
    alone = {"novel_heads": [[0] * 15], "joint_heads": [[0] * 15]}
    assert "racle" not in rendered(protocol_table(example(**alone)))
