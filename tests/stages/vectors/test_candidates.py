"""Clusterings from which heads are refined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.clustering.consensus import consensus
from crkd.clustering.kmeans import Floats, kmeans, unit_rows
from crkd.stages.vectors import candidates
from crkd.stages.vectors.discovery_input import Rows
from crkd.stages.vectors.heads import Heads
from crkd.stages.vectors.spaces import discovery_spaces
from tests.support.vector_clouds import NOVEL, clouds

NUM_HEADS = 5


def rows_of(vectors: Floats) -> Rows:
    space, _ = discovery_spaces(vectors[:0], np.zeros(0, np.int64), vectors)
    return Rows(space, space.rows(vectors), 4, 0)


def heads_of(width: int) -> Heads:
    draw = np.random.default_rng(1)
    shape = (NUM_HEADS, width, NOVEL)
    weights = unit_rows(draw.standard_normal(shape).reshape(-1, NOVEL).astype(np.float32))
    losses = torch.from_numpy(draw.random(NUM_HEADS).astype(np.float32))
    return Heads(10 * torch.from_numpy(weights.reshape(shape)), losses)


def test_starts_are_the_best_heads_what_heads_agree_on_and_kmeans() -> None:
    rows = rows_of(clouds(1)[0])
    heads = heads_of(rows.values.shape[1])
    logits = heads.logits(torch.from_numpy(rows.values))
    shares = logits.softmax(dim=-1)[heads.losses.argsort()].numpy()
    expected = [
        *shares[:3].argmax(axis=2),
        consensus(list(shares), NOVEL, seed=7),
        consensus(list(shares[:3]), NOVEL, seed=7),
        kmeans(rows.values, NOVEL, seed=7).assignment,
    ]
    found = candidates._starts(heads, rows, NOVEL, 7)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_probabilities_take_the_place_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(clouds(1)[0])
    heads = heads_of(rows.values.shape[1])
    logits = heads.logits(torch.from_numpy(rows.values))
    expected = logits.softmax(dim=-1)
    shared: list[bool] = []

    def watched(probabilities: list[Floats], num_clusters: int, *, seed: int) -> np.ndarray:
        shared.extend(np.shares_memory(part, logits.numpy()) for part in probabilities)
        return consensus(probabilities, num_clusters, seed=seed)

    monkeypatch.setattr(Heads, "logits", lambda self, values: logits)
    monkeypatch.setattr(candidates, "consensus", watched)
    candidates._starts(heads, rows, NOVEL, 7)
    assert shared == [True] * (NUM_HEADS + 3)
    assert torch.equal(logits, expected)
