"""Linear heads: they find blobs, follow from the seed alone, and use every class."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from crkd.clustering.kmeans import unit_rows
from crkd.clustering.neighbors import nearest_neighbors
from crkd.evaluation.matching import clustering_accuracy
from crkd.stages.vectors.heads import HeadSettings, train_heads

SHORT = HeadSettings(num_heads=3, steps=120, batch_size=128)


def blobs(num=4, each=60, width=8, seed=0):
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(num), each)
    means = 3 * np.eye(num, width)
    rows = unit_rows((means[truth] + 0.7 * draw.standard_normal((len(truth), width))).astype("f4"))
    neighbors = nearest_neighbors(rows, 10, seed=0)
    return torch.from_numpy(rows), torch.from_numpy(neighbors), truth


def test_they_find_blobs():
    rows, neighbors, truth = blobs()
    heads = train_heads(rows, neighbors, 4, SHORT, seed=0)
    best = heads.logits(rows)[int(heads.losses.argmin())]
    assert clustering_accuracy(best.argmax(dim=1).numpy(), truth) > 0.95


def test_balanced_pseudo_labels_correct_a_start_that_is_half_wrong():
    rows, neighbors, truth = blobs()
    draw = np.random.default_rng(0)
    wrong = np.where(draw.random(len(truth)) < 0.5, draw.integers(0, 4, len(truth)), truth)
    start = torch.stack([rows[wrong == label].mean(dim=0) for label in range(4)], dim=1)
    settings = dataclasses.replace(SHORT, objective="sinkhorn")
    heads = train_heads(rows, neighbors, 4, settings, seed=0, start=start.unsqueeze(0))
    assert clustering_accuracy(heads.logits(rows)[0].argmax(dim=1).numpy(), truth) > 0.95


def test_nothing_but_the_seed_matters():
    rows, neighbors, _ = blobs()
    torch.manual_seed(1)
    first = train_heads(rows, neighbors, 4, SHORT, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = train_heads(rows, neighbors, 4, SHORT, seed=3)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first.weights, train_heads(rows, neighbors, 4, SHORT, seed=4).weights)


def test_heads_do_not_change_each_others_gradient():
    """Two heads of equal start are equal at the end: the batch is shared, the weights are not."""
    rows, neighbors, _ = blobs()
    start = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1)
    heads = train_heads(rows, neighbors, 4, SHORT, seed=0, start=start)
    torch.testing.assert_close(heads.weights[0], heads.weights[1])


def test_one_row_and_one_class():
    heads = train_heads(torch.ones(1, 3), torch.zeros(1, 1, dtype=torch.int64), 1, SHORT, seed=0)
    assert heads.weights.isfinite().all()
