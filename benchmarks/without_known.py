"""Discovery on vectors without known classes, compared with k-means of scikit-learn.

Vectors of CIFAR-100 (:mod:`benchmarks.vector_files`), whose network was trained on ImageNet's
labels, and pixels of the digits. The same unlabeled vectors are clustered three times: without
known classes, with the known classes of the split, and by k-means on unit-length vectors. True
labels are read after the discovery.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.rows import row
from benchmarks.vector_files import Arrays, class_order, read, taken
from crkd.clustering.kmeans import unit_rows
from crkd.core.threads import one_thread
from crkd.evaluation.matching import clustering_accuracy
from crkd.stages.vectors.discovery import WITHOUT_LABELS, fit_discovery

COMMAND = "CRKD_VECTORS=FOLDER crkd bench without-known --json FILE"


class Setting(NamedTuple):
    """Classes and vectors of a row.

    Attributes:
        data: "cifar100" or "digits".
        classes: how many of the first classes are drawn from; an order permutes them.
        num_known: K of the discovery with known classes; the others are novel.
        orders: orders of classes.
        each: unlabeled vectors of a class, at most.
    """

    data: str
    classes: int
    num_known: int
    orders: tuple[int, ...]
    each: int = 500


SETTINGS = {
    "cifar100, 10 classes, 500 a class": Setting("cifar100", 20, 10, tuple(range(1, 9))),
    "cifar100, 10 classes, 60 a class": Setting("cifar100", 20, 10, tuple(range(1, 9)), 60),
    "cifar100, 50 classes, 500 a class": Setting("cifar100", 100, 50, (0,)),
    "digits, 5 classes": Setting("digits", 10, 5, tuple(range(5))),
}


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each setting; the baseline is k-means of scikit-learn."""
    for name, setting in SETTINGS.items():
        with one_thread():
            yield _summary(name, [_trial(setting, order) for order in setting.orders])


def _trial(setting: Setting, number: int) -> dict[str, float]:
    """Return accuracies in percent, and seconds of the processor without known classes."""
    from sklearn.cluster import KMeans

    source, order = read(setting.data, "train"), class_order(setting.classes, number)
    known, novel = (
        taken(source, np.sort(classes), setting.each)
        for classes in (order[: setting.num_known], order[setting.num_known :])
    )
    count = setting.classes - setting.num_known
    began = time.process_time()
    without = _found((known[0][:0], known[1][:0]), novel, count)
    seconds = time.process_time() - began
    baseline = KMeans(count, n_init=10, random_state=0).fit_predict(unit_rows(novel[0]))
    return {
        "without_known": without,
        "with_known": _found(known, novel, count),
        "kmeans": 100 * clustering_accuracy(baseline.astype(np.int64), novel[1]),
        "seconds": seconds,
    }


def _found(known: Arrays, novel: Arrays, count: int) -> float:
    """Return the accuracy of a discovery by one method, so that no contest is held."""
    vectors = torch.from_numpy(novel[0])
    given = torch.from_numpy(known[0]), torch.from_numpy(known[1])
    found = fit_discovery(*given, vectors, count, method=WITHOUT_LABELS)
    clusters = found.predict(vectors).novel.argmax(dim=1).numpy()
    return 100 * clustering_accuracy(clusters, novel[1])


def _summary(name: str, trials: list[dict[str, float]]) -> dict[str, Any]:
    means = {key: round(statistics.fmean(t[key] for t in trials), 2) for key in trials[0]}
    gains = [trial["without_known"] - trial["kmeans"] for trial in trials]
    common = row(
        "without-known", "%", name, means["without_known"], means["kmeans"], complete=False
    )
    return {
        **common,
        **means,
        "smallest_gain": round(min(gains), 2),
        "gains": [round(gain, 2) for gain in gains],
        "command": COMMAND,
    }
