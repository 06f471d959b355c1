from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.evaluation.steps import draw_steps, forgetting, group_accuracy, parse_plan, step_entry

TRUTH = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4])
PREDICTED = np.array([0, 0, 1, 3, 2, -1, 3, 0, 4])


def test_a_step_by_hand():
    entry = step_entry(PREDICTED, TRUTH, [2, 2])
    # Class 4 is not found yet, so its image does not count.
    assert entry["acc"]["all"] == pytest.approx(5 / 8)
    assert entry["acc"]["old"] == pytest.approx(3 / 4)
    assert entry["acc"]["new"] == pytest.approx(2 / 4)
    assert entry["groups"] == [pytest.approx(3 / 4), pytest.approx(2 / 4)]


def test_the_supervised_stage_has_no_old_classes():
    entry = step_entry(PREDICTED, TRUTH, [2])
    assert entry["acc"] == {"all": 0.75, "old": None, "new": 0.75}


def test_a_group_without_images_has_no_accuracy():
    assert group_accuracy(PREDICTED, TRUTH, [2, 2, 1, 3]) == [0.75, 0.5, 1.0, None]


def test_forgetting_by_hand():
    assert forgetting([[0.9], [0.8, 0.7], [0.85, None, 0.5]]) == [pytest.approx(0.05), None]
    assert forgetting([[0.9]]) == []


@pytest.mark.parametrize("plan", ["10", "4-x", "4--3", "4-0", "", "-3-3", "4-3-", "²-3"])
def test_a_plan_that_is_none_is_refused(plan: str):
    with pytest.raises(InputError, match="--plan"):
        parse_plan(plan)


def test_the_picture_is_drawn(tmp_path: Path):
    draw_steps([[0.9], [0.8, 0.7], [0.85, None, 0.5]], tmp_path / "steps.png")
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_leaves_the_backend_of_the_caller_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(mpl.rcParams, "backend", "svg")
    draw_steps([[0.9], [0.8, 0.7]], tmp_path / "steps.png")
    assert mpl.rcParams["backend"] == "svg"


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"steps\.png cannot be written"):
        draw_steps([[0.9], [0.8, 0.7]], tmp_path / "file" / "steps.png")
