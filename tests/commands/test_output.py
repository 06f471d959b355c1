"""Lines that commands print about a run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from crkd.commands.output import print_protocols
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import save_predictions
from crkd.evaluation.report import evaluate
from tests.support.untrained_runs import untrained_run


def test_the_next_command_can_be_pasted_into_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_run(tmp_path / 'It\'s "my" photographs & more' / ("long" * 20))
    print_protocols(run)
    *_, last = capsys.readouterr().out.splitlines()
    assert shlex.split(last) == ["next:", "crkd", "review", str(run.path)]


def test_vectors_without_images_are_not_sent_to_a_review(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_run(tmp_path / "run")
    architecture = {**run.read_info().architecture, "backbone": "vectors"}
    for embedding, printed in ((None, False), ({"backbone": "lite0"}, True)):
        info = dataclasses.replace(run.read_info(), architecture=architecture, embedding=embedding)
        run.write_info(info)
        print_protocols(run)
        assert ("next: crkd review" in capsys.readouterr().out) is printed


@pytest.mark.parametrize(
    ("labels", "accuracy", "sizes"), [(3, True, False), (2, True, True), (0, False, True)]
)
def test_sizes_of_classes_follow_labels_of_another_number_of_classes(
    labels: int, accuracy: bool, sizes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders by date count as labels, but say nothing about three discovered classes."""
    run = untrained_run(tmp_path / "run")
    clusters = [0, 1, 2, 2, 2, 2]
    predictions = Predictions(
        id=[f"image {number}" for number in range(6)],
        part=["train"] * 6,
        label=[2 + number % labels if labels else -1 for number in range(6)],
        known_head=[0] * 6,
        novel_heads=[clusters] * 2,
        joint_heads=[[2 + cluster for cluster in clusters]] * 2,
        confidence=[0.5] * 6,
        class_names=["cat", "dog", "a", "b", "c"],
        num_known=2,
        num_novel=3,
        chosen_head=1,
    )
    save_predictions(predictions, run.path / "predictions.parquet")
    run.write_metrics(evaluate(predictions))
    print_protocols(run)
    out = capsys.readouterr().out
    assert ("task-aware" in out) is accuracy
    assert ("discovered classes" in out) is sizes
    assert ("(no labels)" in out) is not accuracy
    if sizes:
        assert re.search(r"novel-2 +4\b", out)


def test_a_supervised_run_has_no_discovered_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its unlabeled images have labels of novel classes, but it has no novel head."""
    run = untrained_run(tmp_path / "run", novel=())
    predictions = Predictions(
        id=["image 0", "image 1"],
        part=["train", "test"],
        label=[2, 0],
        known_head=[0, 0],
        novel_heads=np.zeros((0, 2), int),
        joint_heads=np.zeros((0, 2), int),
        confidence=[0.5] * 2,
        class_names=["cat", "dog", "fox"],
        num_known=2,
        num_novel=0,
        chosen_head=None,
    )
    save_predictions(predictions, run.path / "predictions.parquet")
    run.write_metrics(evaluate(predictions))
    print_protocols(run)
    assert "discovered classes" not in capsys.readouterr().out
