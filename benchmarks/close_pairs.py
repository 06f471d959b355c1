"""Pairs of discovered classes that are named as one class, with too many classes.

Vectors of CIFAR-100 (:mod:`benchmarks.vector_files`), 200 a class. 10 novel classes are divided
into 10, 14 and 20 clusters, with 10 known classes and without. Two clusters are of one class if
most of their vectors have the same label; these labels are read after the discovery. The baseline
is the rule for trained networks, an overlap of the probabilities.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rows import row
from benchmarks.vector_files import class_order, read, taken
from crkd.clustering.cluster_usage import merge_suggestions
from crkd.clustering.separation import close_pairs
from crkd.core.threads import one_thread
from crkd.stages.vectors.discovery import WITHOUT_LABELS, fit_discovery
from crkd.stages.vectors.state import network_of

COMMAND = "CRKD_VECTORS=FOLDER crkd bench close-pairs --json FILE"
EACH = 200
CLASSES = 10
ORDERS = tuple(range(6, 14))
CLUSTERS = (10, 14, 20)


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each number of known classes and of clusters."""
    for num_known in (CLASSES, 0):
        for count in CLUSTERS:
            with one_thread():
                trials = [_trial(num_known, count, order) for order in ORDERS]
            yield _summary(num_known, count, trials)


def _trial(num_known: int, count: int, number: int) -> dict[str, float]:
    """Return numbers of pairs: of one class, named rightly and wrongly, by both rules."""
    source, order = read("cifar100", "train"), class_order(2 * CLASSES, number)
    known, novel = (
        taken(source, np.sort(part), EACH) for part in (order[:CLASSES], order[CLASSES:])
    )
    kept = num_known * EACH
    vectors = torch.from_numpy(novel[0])
    found = fit_discovery(
        torch.from_numpy(known[0][:kept]),
        torch.from_numpy(known[1][:kept]),
        vectors,
        count,
        method=WITHOUT_LABELS,
    )
    outputs = network_of(found)([vectors])
    assert outputs.novel_logits is not None
    logits = outputs.novel_logits[0].float().numpy()
    clusters = logits[0].argmax(axis=1)
    close = close_pairs(outputs.features[0].float().numpy(), clusters, count)
    overlapping = merge_suggestions(logits, 0)
    owners = _owners(clusters, novel[1], count)
    same = {(a, b) for b in range(count) for a in range(b) if owners[a] == owners[b] >= 0}
    named = {(pair.first, pair.second) for pair in close}
    by_overlap = {(pair.first, pair.second) for pair in overlapping}
    return {
        "same_class": len(same),
        "right": len(named & same),
        "wrong": len(named - same),
        "overlap_right": len(by_overlap & same),
        "overlap_wrong": len(by_overlap - same),
    }


def _owners(clusters: NDArray[np.int64], truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the most frequent class of each cluster, -1 for an empty one."""
    owners = np.full(count, -1)
    for cluster in np.unique(clusters):
        owners[cluster] = np.bincount(truth[clusters == cluster]).argmax()
    return owners


def _summary(num_known: int, count: int, trials: list[dict[str, float]]) -> dict[str, Any]:
    means = {key: round(statistics.fmean(t[key] for t in trials), 2) for key in trials[0]}
    name = f"cifar100, {num_known} known classes, {CLASSES} novel ones in {count} clusters"
    common = row(
        "close-pairs", "pairs", name, means["right"], means["overlap_right"], complete=False
    )
    return {**common, **means, "trials": trials, "command": COMMAND}
