"""Protocols for the predictions of any method; their values equal those of a run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from crkd.core.errors import InputError
from crkd.evaluation.any_method import evaluate_outputs
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.report import evaluate

KNOWN, NOVEL, IMAGES = 3, 4, 300


def outputs(*, mixed: bool, novel_apart: bool) -> dict[str, Any]:
    """Labels and joint outputs; with ``novel_apart`` no novel image has a known output."""
    draw = np.random.default_rng(0)
    part = np.where(np.arange(IMAGES) < 150, "train", "test")
    lowest = np.where((part == "train") & (not mixed), KNOWN, 0)
    label = draw.integers(lowest, KNOWN + NOVEL)
    joint = np.where(draw.random(IMAGES) < 0.4, draw.integers(0, KNOWN + NOVEL, IMAGES), label)
    if novel_apart:
        joint = np.where((label >= KNOWN) & (joint < KNOWN), KNOWN + joint, joint)
    return {"part": part, "label": label, "joint": joint}


def run_metrics(part: Any, label: Any, joint: Any) -> dict[str, Any]:
    """The metrics of a run with one head that has these outputs."""
    novel = np.where(joint >= KNOWN, joint - KNOWN, 0)
    return evaluate(
        Predictions(
            id=[str(number) for number in range(IMAGES)],
            part=part,
            label=label,
            known_head=np.where(joint < KNOWN, joint, 0),
            novel_heads=novel[None],
            joint_heads=joint[None],
            confidence=np.full(IMAGES, 0.5),
            class_names=list("abcdefg"),
            num_known=KNOWN,
            num_novel=NOVEL,
            chosen_head=0,
        )
    )


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("novel_apart", [False, True])
def test_what_is_scored_is_what_a_run_has(mixed: bool, novel_apart: bool) -> None:
    given = outputs(mixed=mixed, novel_apart=novel_apart)
    run = run_metrics(**given)
    found = evaluate_outputs(
        given["joint"], given["label"], num_known=KNOWN, part=given["part"].tolist()
    )
    scored = set()
    for protocol in PROTOCOLS:
        for part, groups in found.get(protocol, {}).items():
            for group, score in groups.items():
                assert score == pytest.approx(run[protocol][part][group]), (protocol, part, group)
                scored.add((protocol, part, group))
    assert (("joint_hungarian", "train", "all") in scored) == mixed
    assert (("novel_hungarian", "train", "known") in scored) == mixed
    assert ("separate_hungarian", "train", "novel") in scored
    for group in (("task_aware", "train", "novel"), ("task_agnostic", "test", "novel")):
        assert (group in scored) == novel_apart
    assert ("task_agnostic", "test", "known") in scored
    missing = " ".join(found["not_supported"])
    for protocol, entry in PROTOCOLS.items():
        complete = all(
            (protocol, part, group) in scored
            for part in entry.parts
            for group in entry.groups
            if part == "test" or mixed or group == "novel"
        )
        assert complete or entry.title in missing, protocol
        assert (protocol in found["sources"]) == any(place[0] == protocol for place in scored)
    json.dumps(found, allow_nan=False)


def test_clusters_without_known_outputs() -> None:
    given = outputs(mixed=True, novel_apart=False)
    arguments = {"num_known": KNOWN, "part": given["part"].tolist()}
    plain = evaluate_outputs(given["joint"], given["label"], **arguments)
    found = evaluate_outputs(given["joint"], given["label"], clusters_only=True, **arguments)
    assert found.keys() & PROTOCOLS.keys() == {"joint_hungarian", "separate_hungarian"}
    assert found["joint_hungarian"] == plain["joint_hungarian"]
    assert any("no output is a known class" in text for text in found["not_supported"])
    # Clusters of novel images alone are those of a novel head.
    novel = given["label"] >= KNOWN
    alone = evaluate_outputs(
        given["joint"][novel], given["label"][novel], num_known=KNOWN, clusters_only=True
    )
    assert alone["task_aware"]["train"] == alone["separate_hungarian"]["train"]


def test_outputs_of_the_novel_head_by_hand() -> None:
    """The example of docs/evaluation.md: novel training images by the novel head."""
    joint = [3, 3, 3, 2, 3, 0, 0, 2, 0, 3, 1, 3, 0, 0, 1]
    label = [2, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    part = ["train"] * 5 + ["test"] * 10
    found = evaluate_outputs(joint, label, num_known=2, part=part)
    assert found["task_aware"]["train"]["novel"]["acc"] == pytest.approx(0.8)
    accuracies = {g: round(s["acc"], 3) for g, s in found["task_agnostic"]["test"].items()}
    assert accuracies == {"all": 0.4, "known": 0.5, "novel": 0.333}
    assert round(found["separate_hungarian"]["test"]["novel"]["acc"], 3) == 0.667
    assert found["not_supported"] == [
        "part 'train': no image of a known class, so no group 'all'.",
        "task-aware (test): 4 of 6 novel test images have a known output, so the output of the "
        "novel head is not given.",
        "joint Hungarian (train), novel Hungarian (train): some labeled images must be of known "
        "and some of novel classes.",
        "known head alone (test): 1 of 4 known test images have a novel output, so the output of "
        "the known head is not given.",
    ]
    assert found["counts"]["test"] == {"images": 10, "known": 4, "novel": 6, "unlabeled": 0}


@pytest.mark.parametrize(
    ("prediction", "label", "part", "said"),
    [
        ([0, 1], [0, 1], ["train", "train"], "part 'test': no image."),
        ([0, 1, 1], [0, 1, -1], ["train", "train", "test"], "part 'test': no image has a label."),
    ],
)
def test_a_part_without_images_is_not_a_part_without_labels(
    prediction: list[int], label: list[int], part: list[str], said: str
) -> None:
    assert evaluate_outputs(prediction, label, num_known=1, part=part)["not_supported"][0] == said


@pytest.mark.parametrize("clusters_only", [False, True])
def test_clusters_without_known_classes(clusters_only: bool) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 4, 60)
    clusters = np.where(rng.random(60) < 0.7, (label + 2) % 5, rng.integers(0, 6, 60))
    found = evaluate_outputs(clusters, label, num_known=0, clusters_only=clusters_only)
    scores = found["task_aware"]["train"]["novel"]
    rows = label >= 0
    counts = contingency_matrix(clusters[rows], label[rows])
    assert scores["acc"] == counts[linear_sum_assignment(-counts)].sum() / rows.sum()
    assert scores["nmi"] == pytest.approx(
        normalized_mutual_info_score(label[rows], clusters[rows]), abs=1e-12
    )
    assert found["counts"]["train"] | {"known": 0} == found["counts"]["train"]
    assert found.keys() & PROTOCOLS.keys() == {"task_aware", "separate_hungarian"}


def test_numbers_of_numpy_and_tensors_are_taken() -> None:
    plain = evaluate_outputs([0, 1, 2], [0, 1, 1], num_known=1, part="test")
    found = evaluate_outputs(
        np.array([0, 1, 2], dtype=np.uint8),
        torch.tensor([0, 1, 1], dtype=torch.int32),
        num_known=np.int64(1),
        part=np.array(["test"] * 3),
    )
    assert json.loads(json.dumps(found)) == plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [-1, -1, -1]}, "label holds no class"),
        ({"label": [0, 1]}, "3, 2 and 3 entries"),
        ({"label": [0, 1, -2]}, "label holds the id -2"),
        ({"label": [0, 1, 10_000]}, "label holds the id 10000"),
        ({"prediction": [0, 1, -1]}, "prediction holds the id -1"),
        ({"prediction": [0, 1, 0.5]}, "prediction has dtype float64"),
        ({"prediction": [0, 1, 1 << 40]}, "prediction holds the id 1099511627776"),
        ({"num_known": -1}, "num_known is -1; it must be a whole number from 0 to 9999"),
        ({"num_known": 10_000}, "num_known is 10000"),
        ({"num_known": 1.0}, "num_known is 1.0; it must be a whole number"),
        ({"part": ["train", "test", None]}, "part holds 'None'"),
        ({"part": ["train", "test", "val"]}, "part holds 'val'"),
        ({"part": ["train", "test"]}, "3, 3 and 2 entries"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    plain = {"prediction": [0, 1, 2], "label": [0, 1, 1], "num_known": 1, "part": "test"}
    evaluate_outputs(**plain)
    with pytest.raises(InputError, match=message):
        evaluate_outputs(**{**plain, **changes})
