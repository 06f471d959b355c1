"""Known or novel: the estimated known share, and AUROC compared with distances.

Vectors of CIFAR-100 (:mod:`benchmarks.vector_files`). A draw chooses 20 known classes with 250
labeled vectors each, and 20 novel classes. The 2,000 unlabeled vectors are 0, 25, 50, 75 or 100 %
of known classes. The baselines are the distance to the fifth nearest labeled vector and the
relative Mahalanobis distance. Further rows have fewer vectors. True labels are read after the
decision.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.rows import row
from benchmarks.vector_files import read
from crkd.clustering.kmeans import Floats, unit_rows
from crkd.clustering.novelty.known_or_novel import known_check
from crkd.clustering.novelty.relative_mahalanobis import fit_relative_mahalanobis
from crkd.clustering.novelty.separation import measure_separation
from crkd.core.threads import one_thread

COMMAND = "CRKD_VECTORS=FOLDER crkd bench known-or-novel --json FILE"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
DRAWS = 5


class Size(NamedTuple):
    """Sizes of a setting.

    Attributes:
        known: known classes.
        novel: novel classes.
        labeled: labeled vectors of a known class.
        unlabeled: vectors in all.
    """

    known: int
    novel: int
    labeled: int
    unlabeled: int


SIZES = (Size(20, 20, 250, 2000), Size(10, 5, 100, 600), Size(10, 5, 30, 300))


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each size and known share; the baseline is the better distance."""
    for size in SIZES:
        for share in SHARES:
            with one_thread():
                yield _summary(size, share, [_trial(size, share, draw) for draw in range(DRAWS)])


def _trial(size: Size, share: float, number: int) -> dict[str, float]:
    labeled, labels, unlabeled, is_novel = _scene(size, share, number)
    began = time.process_time()
    check = known_check(labeled, labels, unlabeled, seed=0)
    seconds = time.process_time() - began
    found = {
        "share": 100 * check.share,
        "wrong": 100 * float(np.mean(check.looks_known == is_novel)),
        "seconds": seconds,
    }
    if not 0 < share < 1:
        return found
    separation = measure_separation(labeled, labels, check.share, seed=0)
    nearest = unit_rows(unlabeled) @ unit_rows(labeled).T
    fifth = -np.partition(nearest, -5, axis=1)[:, -5]
    relative = fit_relative_mahalanobis(labeled, labels).novelty_score(unlabeled)
    return {
        **found,
        "auroc": float(roc_auc_score(is_novel, check.scores)),
        "auroc_neighbor": float(roc_auc_score(is_novel, fifth)),
        "auroc_mahalanobis": float(roc_auc_score(is_novel, relative)),
        "auroc_hidden": separation.auroc,
    }


def _scene(size: Size, share: float, number: int) -> tuple[Floats, np.ndarray, Floats, np.ndarray]:
    """Return labeled vectors and labels, unlabeled vectors, and whether each is novel."""
    vectors, truth = read("cifar100", "train")
    draw = np.random.default_rng(number)
    order = draw.permutation(100)
    places = [
        draw.permutation(np.flatnonzero(truth == c)) for c in order[: size.known + size.novel]
    ]
    known, novel = places[: size.known], np.concatenate(places[size.known :])
    kept = np.concatenate([rows[: size.labeled] for rows in known])
    labels = np.repeat(np.arange(size.known), size.labeled)
    count = round(share * size.unlabeled)
    inside = draw.permutation(np.concatenate([rows[size.labeled :] for rows in known]))[:count]
    mixed = np.concatenate([inside, draw.permutation(novel)[: size.unlabeled - count]])
    return vectors[kept], labels, vectors[mixed], np.arange(len(mixed)) >= count


def _summary(size: Size, share: float, trials: list[dict[str, float]]) -> dict[str, Any]:
    means = {key: statistics.fmean(trial[key] for trial in trials) for key in trials[0]}
    name = (
        f"cifar100, {size.known} known and {size.novel} novel classes, {size.labeled} labeled a "
        f"class, {size.unlabeled} unlabeled, {100 * share:.0f} % known"
    )
    baseline = None
    if "auroc" in means:
        baseline = max(means["auroc_neighbor"], means["auroc_mahalanobis"])
    common = row("known-or-novel", "auroc", name, means.get("auroc"), baseline, complete=False)
    errors = [abs(trial["share"] - 100 * share) for trial in trials]
    return {
        **common,
        **{key: round(value, 3) for key, value in means.items()},
        "largest_share_error": round(max(errors), 2),
        "shares": [round(trial["share"], 1) for trial in trials],
        "command": COMMAND,
    }
