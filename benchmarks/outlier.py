"""Outliers: the share of foreign images that the score of the column ``outlier`` finds.

Vectors of CIFAR-100, Fashion-MNIST and scikit-learn's digits (:mod:`benchmarks.vector_files`);
twenty other classes of CIFAR-100 are images like those of the run. A draw chooses the known
classes, and in a discovery also the novel ones; the gate is fitted on their training vectors. One
half of their test vectors sets the threshold: at most 5 % of the known classes and of the novel
ones are above it. The other half measures the false alarms. The score is the sum of energy and
distance with as many reference vectors as a run keeps. The baselines use the same vectors: the free
energy alone, the distance to the fifth nearest of all training vectors, and the Mahalanobis
distance to the nearest class with one covariance (Lee et al., NeurIPS 2018), where the novel
classes are the discovered ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from benchmarks.rows import row
from benchmarks.vector_files import Arrays, read, taken
from crkd.clustering.kmeans import Floats, unit_rows
from crkd.clustering.novelty.energy import energy_scores, energy_threshold
from crkd.clustering.novelty.mahalanobis import nearest_square
from crkd.clustering.novelty.outlier_score import OutlierScore
from crkd.core.shuffle import stable_shuffle
from crkd.core.threads import one_thread
from crkd.stages.vectors.discovery import fit_discovery, fit_known
from crkd.stages.vectors.gate import Gate
from crkd.stages.vectors.outliers import FALSE_ALARMS, MOST_ROWS

COMMAND = "CRKD_VECTORS=FOLDER crkd bench outlier --json FILE"
FOREIGN = ("fashion", "digit-images")
OTHERS = "other classes"
"""Classes of CIFAR-100 that the run does not have."""
NUM_OTHERS = 20
METHODS = ("joined", "energy", "neighbor", "mahalanobis")
DRAWS = 5

Score = Callable[[Floats], NDArray[np.float64]]
"""Returns a score ``(N,)`` for vectors ``(N, D)``; it is large for outliers."""


class Setting(NamedTuple):
    """Classes of a fit.

    Attributes:
        known: number of known classes.
        novel: number of novel classes; 0 fits the known classes alone.
        each: training vectors of a class.
    """

    known: int
    novel: int
    each: int


SETTINGS = (Setting(20, 0, 500), Setting(20, 0, 100), Setting(10, 10, 500))


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each setting and foreign set; the baseline is the best of the others."""
    for setting in SETTINGS:
        with one_thread():
            trials = [measure(setting, draw) for draw in range(DRAWS)]
        for data in (*FOREIGN, OTHERS):
            yield summary(setting, data, trials)


def measure(setting: Setting, number: int) -> dict[str, float]:
    """Fit the classes of a draw; return shares in percent.

    Returns:
        ``METHOD: DATA`` to the share of the foreign vectors above the threshold of each score, and
        ``METHOD: false alarms``.
    """
    train, test = read("cifar100", "train"), read("cifar100", "test")
    order = np.random.default_rng(number).permutation(100)
    groups = [order[: setting.known]]
    if setting.novel:
        groups.append(order[setting.known : setting.known + setting.novel])
    known, *novel = (taken(train, classes, setting.each) for classes in groups)
    held_out = [taken(test, classes, 100)[0] for classes in groups]
    asked = {"false alarms": np.concatenate([vectors[1::2] for vectors in held_out])}
    asked |= {data: read(data, "test")[0] for data in FOREIGN}
    rest = order[setting.known + setting.novel :][:NUM_OTHERS]
    asked[OTHERS] = taken(test, rest, 100)[0]
    found: dict[str, float] = {}
    halves = [vectors[::2] for vectors in held_out]
    fresh = [vectors for vectors, _ in novel]
    for method, score in scores(known, fresh, setting.novel, halves).items():
        inside = [score(vectors) for vectors in halves]
        threshold = energy_threshold(inside, false_alarms=FALSE_ALARMS)
        for name, vectors in asked.items():
            found[f"{method}: {name}"] = 100 * float(np.mean(score(vectors) > threshold))
    return found


def scores(
    known: Arrays, novel: list[Floats], num_novel: int, inside: list[Floats]
) -> dict[str, Score]:
    """Return the score of a run, that of the gate alone and the two distances.

    Args:
        known: vectors and labels of the known classes.
        novel: the vectors of the novel classes, if there are any.
        num_novel: number of the novel classes.
        inside: vectors of known and of novel classes that set the scales.
    """
    vectors, labels = (torch.from_numpy(part) for part in known)
    rows, classes = known
    if num_novel:
        fresh = torch.from_numpy(novel[0])
        found = fit_discovery(vectors, labels, fresh, num_novel, method="whitened_kmeans")
        clusters = found.predict(fresh).novel.argmax(1).numpy()
        rows = np.concatenate([rows, novel[0]])
        classes = np.concatenate([classes, found.num_known + clusters])
    else:
        found = fit_known(vectors, labels, vectors[:0])
    energy = _energy(found.gate)
    return {
        "joined": _joined(energy, rows, inside),
        "energy": energy,
        "neighbor": _neighbor(rows),
        "mahalanobis": _mahalanobis(rows, classes),
    }


def _energy(gate: Gate) -> Score:
    return lambda vectors: energy_scores(gate.scores(gate.space.rows(vectors)))


def _joined(energy: Score, rows: Floats, inside: list[Floats]) -> Score:
    reference = rows[np.sort(stable_shuffle(len(rows), 0)[:MOST_ROWS])]
    groups = [(energy(vectors), vectors) for vectors in inside]
    score = OutlierScore.fit(reference, groups, false_alarms=FALSE_ALARMS)
    return lambda vectors: score.scores(energy(vectors), vectors)


def _neighbor(rows: Floats) -> Score:
    unit = unit_rows(rows).T

    def fifth(vectors: Floats) -> NDArray[np.float64]:
        nearest = unit_rows(vectors) @ unit
        return np.asarray(-np.partition(nearest, -5, axis=1)[:, -5], np.float64)

    return fifth


def _mahalanobis(vectors: Floats, labels: NDArray[np.int64]) -> Score:
    means = np.stack([vectors[labels == c].mean(0) for c in range(labels.max() + 1)])
    fit = LedoitWolf(assume_centered=True).fit(vectors - means[labels])
    # A A^T is the inverse of the covariance.
    whitening = np.linalg.cholesky(fit.precision_.astype(np.float64))
    return lambda rows: nearest_square(rows @ whitening, means @ whitening)


def summary(setting: Setting, data: str, trials: list[dict[str, float]]) -> dict[str, Any]:
    """Return the row of a setting and a foreign set."""
    means = {key: statistics.fmean(trial[key] for trial in trials) for key in trials[0]}
    found = {method: means[f"{method}: {data}"] for method in METHODS}
    classes = f"{setting.known} known" + (f" and {setting.novel} novel" if setting.novel else "")
    name = f"{data} among cifar100, {classes} classes, {setting.each} vectors a class"
    baseline = max(found[method] for method in METHODS[1:])
    return {
        **row("outlier", "% found", name, found["joined"], baseline, complete=False),
        **{method: round(share, 1) for method, share in found.items()},
        "false_alarms": {m: round(means[f"{m}: false alarms"], 1) for m in METHODS},
        "worst": round(min(trial[f"joined: {data}"] for trial in trials), 1),
        "draws": [round(trial[f"joined: {data}"], 1) for trial in trials],
        "seeds": list(range(DRAWS)),
        "command": COMMAND,
    }
