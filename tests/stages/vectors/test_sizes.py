"""Sizes of novel classes, read off without a label."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.whitening import whitened_spaces
from crkd.stages.vectors import sizes as sizes_module
from crkd.stages.vectors.discovery_input import WIDTHS, DiscoveryInput
from crkd.stages.vectors.sizes import estimated_class_shares

WIDTH = 20


def inputs(sizes, seed=0):
    """Return Gaussian novel classes of these sizes, with three known classes."""
    means = 4 * np.random.default_rng(99).standard_normal((12, WIDTH))
    draw = np.random.default_rng(seed)

    def rows(labels):
        return (means[labels] + 0.3 * draw.standard_normal((len(labels), WIDTH))).astype(np.float32)

    labels = np.repeat(np.arange(3), 40)
    known, novel = rows(labels), rows(3 + np.repeat(np.arange(len(sizes)), sizes))
    return DiscoveryInput(novel, len(sizes), *whitened_spaces(known, labels, novel, WIDTHS), 0)


def test_uneven_sizes_are_found():
    assert estimated_class_shares(inputs([80, 80, 16]), 0) == pytest.approx([0.2, 1, 1], abs=0.05)


@pytest.mark.parametrize("sizes", [[80, 80], [60, 60, 60], [50, 40, 50, 45], [70]])
def test_about_equal_classes_count_as_equal(sizes):
    assert estimated_class_shares(inputs(sizes), 0) == [1.0]


def test_uneven_clusters_alone_are_no_evidence(monkeypatch):
    scores = iter([1.2, 1.0])
    monkeypatch.setattr(sizes_module, "partition_score", lambda *args, **kwargs: next(scores))
    assert estimated_class_shares(inputs([80, 80, 16]), 0) == [1.0]
