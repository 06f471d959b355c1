"""The loss of SimGCD against its formulas, rewritten in float64 from the release's description."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.config.load import load_config
from crkd.core.types import Batch
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.stages.discover.simgcd import WARMUP_EPOCHS, SimgcdTask, teacher_temperature

LABELS = [2, 0, 2]
"""Of the first rows; the others have no labels."""
ROWS, KNOWN, NOVEL, EPOCH = 7, 3, 2, 12


@pytest.fixture(scope="module")
def task() -> SimgcdTask:
    config = load_config("digits", ["model.hidden=16", "model.projection=8"])
    shape = Architecture("resnet8", 16, KNOWN, NOVEL, num_heads=1, joint=True)
    return SimgcdTask(build_network(shape), config, torch.device("cpu"))


@pytest.fixture(scope="module")
def batch() -> Batch:
    draw = torch.Generator().manual_seed(0)
    views = tuple(torch.randn(ROWS, 3, 16, 16, generator=draw) for _ in range(2))
    labels = torch.tensor(LABELS + [-1] * (ROWS - len(LABELS)))
    number = torch.arange(ROWS)
    return Batch(views, labels, number, torch.zeros_like(number), len(LABELS), 2)


def softmax(rows: np.ndarray) -> np.ndarray:
    e = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attraction(rows: np.ndarray, classes: np.ndarray, temperature: float) -> float:
    """Mean over rows of the mean of -log p over the other rows of the same class."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = np.exp(unit @ unit.T / temperature)
    np.fill_diagonal(similar, 0)
    log_p = np.log(similar / similar.sum(axis=1, keepdims=True) + np.eye(len(rows)))
    same = (classes[:, None] == classes) & ~np.eye(len(rows), dtype=bool)
    return float(-((log_p * same).sum(axis=1) / same.sum(axis=1)).mean())


def by_hand(cosines: np.ndarray, projected: np.ndarray) -> dict[str, float]:
    """The terms of views ``(2, B, C)`` of cosines and ``(2, B, P)`` of projections."""
    temperature = 0.04 + 0.03 * (1 + math.cos(math.pi * EPOCH / 30)) / 2
    log_p = np.log(softmax(cosines / 0.1))
    taught = softmax(cosines / temperature)
    mean = softmax(cosines / 0.1).mean(axis=(0, 1))
    labeled = len(LABELS)
    labels = np.array(LABELS)
    return {
        "distillation": float(-(taught * log_p[::-1]).sum(axis=-1).mean()),
        "entropy_gap": float((mean * np.log(mean)).sum() + math.log(len(mean))),
        "contrast": attraction(projected.reshape(-1, 8), np.tile(np.arange(ROWS), 2), 1.0),
        "supervised": float(-log_p[:, np.arange(labeled), labels].mean()),
        "supervised_contrast": attraction(
            projected[:, :labeled].reshape(-1, 8), np.tile(labels, 2), 0.07
        ),
    }


def test_all_terms_and_weights_follow_the_formulas(task: SimgcdTask, batch: Batch) -> None:
    task.start_epoch(EPOCH)
    loss, named = task.losses(batch)
    task.modules.network.train()
    with torch.no_grad():
        outputs = task.modules.network(batch.views)
        projected = task.modules.projector(outputs.features)
    wanted = by_hand(
        0.1 * outputs.joint_logits()[:, 0].double().numpy(), projected.double().numpy()
    )
    assert {name: term.item() for name, term in named.items()} == pytest.approx(wanted, rel=1e-4)
    everything = wanted["distillation"] + 2 * wanted["entropy_gap"] + wanted["contrast"]
    labeled = wanted["supervised"] + wanted["supervised_contrast"]
    assert loss.item() == pytest.approx(0.65 * everything + 0.35 * labeled, rel=1e-4)


def test_labels_reach_labeled_rows_alone(task: SimgcdTask, batch: Batch) -> None:
    task.start_epoch(0)
    changed = batch.labels.clone()
    changed[len(LABELS) :] = 1
    assert torch.equal(task.losses(batch)[0], task.losses(batch._replace(labels=changed))[0])


def test_the_teacher_grows_sharper_until_epoch_30() -> None:
    found = [teacher_temperature(epoch / WARMUP_EPOCHS) for epoch in range(40)]
    assert found[0] == 0.07
    assert found == sorted(found, reverse=True)
    assert found[30:] == [0.04] * 10
