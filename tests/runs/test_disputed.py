from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.runs.disputed import disputed_classes, read_probabilities, write_disputed
from tests.support.untrained_runs import untrained_run

NAMES = ["cat", "=dog", "novel-0", "novel-1"]
LOGITS = np.log(
    np.array(
        [
            [0.1, 0.6, 0.2, 0.1],  # known, novel-0 next
            [0.1, 0.1, 0.2, 0.6],
            [0.7, 0.0001, 0.1, 0.1999],  # known and surer, novel-1 next
        ]
    )
).astype(np.float32)


def test_the_surest_known_class_comes_first(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    assert disputed_classes(LOGITS, 2).tolist() == [1, -1, 0]
    assert write_disputed(run, ["=a.png", "b.png", "c.png"], LOGITS, NAMES, 2) == 2
    with (run.path / "disputed.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "class_name", "probability", "known_class", "known_probability"]
    assert [row[:2] + row[3:4] for row in rows[1:]] == [
        ["c.png", "novel-1", "cat"],
        ["'=a.png", "novel-0", "'=dog"],
    ]
    assert [float(row[4]) for row in rows[1:]] == pytest.approx([0.7, 0.6], abs=1e-5)
    found = read_probabilities(run)
    assert found == pytest.approx({"c.png": 0.1999, "=a.png": 0.2}, abs=1e-5)


def test_without_disputes_the_file_has_a_header_only(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    assert read_probabilities(run) == {}
    assert write_disputed(run, ["b.png"], LOGITS[1:2], NAMES, 2) == 0
    assert (run.path / "disputed.csv").read_text().count("\n") == 1
    assert read_probabilities(run) == {}


@pytest.mark.parametrize(
    "content", [b"image,class_name\na,b\n", b"image,probability\na,nan\n", b"\xff\n\xfe"]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    run = untrained_run(tmp_path / "run")
    (run.path / "disputed.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"disputed\.csv is damaged"):
        read_probabilities(run)
