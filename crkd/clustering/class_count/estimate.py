"""Estimation of the number of classes in unlabeled images, as a range with evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.class_count.inertia import InertiaCurve, cluster_counts, inertia_curve
from crkd.clustering.class_count.probe_classes import crowding, probe_classes, total_variance
from crkd.clustering.class_count.validity import peak_heights, silhouettes, stabilities
from crkd.clustering.kmeans import Floats, kmeans, unit_rows
from crkd.clustering.row_pieces import even_places
from crkd.core.counted import counted
from crkd.core.errors import InputError

DRAWS = 8
MAX_ROWS = 4000
FEWEST_ROWS = 10
"""Rows of a known class in the sample, if it has as many: a class without one would be missing."""
MAX_DIMENSIONS = 64
"""More features are projected onto their leading principal components."""
PROBE_SHARE = 0.75
"""The smallest fraction of the known classes that a draw holds out as probe classes."""
PLATEAU = 0.02
"""Probe clusterings within this distance of the best adjusted Rand index count as equally good."""
PRICES = 200
TAILS = 0.1
NUM_COUNTS = 24
"""The largest number of cluster counts at which stability and silhouette are computed."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scores over the number of clusters; the arrays have one entry for each of G numbers.

    Attributes:
        counts: ``(G,)`` numbers of clusters, ascending.
        votes: fraction of the votes for each number of clusters; they sum to 1. None
            without known classes.
        stability: adjusted Rand index under resampling.
        silhouette: mean silhouette.
    """

    counts: NDArray[np.int64]
    votes: NDArray[np.float64] | None
    stability: NDArray[np.float64]
    silhouette: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassCount:
    """The estimated number of classes.

    Attributes:
        estimate: the best single number.
        low: lower end of the range.
        high: upper end of the range.
        evidence: the scores behind the estimate.
        num_probes: known classes that were used as probe classes; 0 for an estimate without them.
        at_limit: whether the range ends at the largest number that was tried.
    """

    estimate: int
    low: int
    high: int
    evidence: Evidence
    num_probes: int
    at_limit: bool

    @property
    def sentence(self) -> str:
        """The estimate and its range for the notes of a run."""
        sentence = (
            f"number of novel classes estimated: {self.estimate}, range {self.low} to {self.high}"
        )
        if not self.at_limit:
            return sentence
        return (
            f"{sentence}; no number above {self.high} was looked at: if there may be more classes, "
            "use 'crkd estimate-k RUN --max-k N', or give --num-novel K"
        )


def estimate_class_count(
    novel: Floats,
    known: Floats | None = None,
    labels: NDArray[np.int64] | None = None,
    *,
    seed: int,
    max_classes: int | None = None,
) -> ClassCount:
    """Estimate how many classes the novel images contain.

    The search holds out known classes as if they were novel (Han, Vedaldi and Zisserman, 2019;
    Vaze et al., 2022). Their features are first spread as widely as those of the novel images
    (:mod:`crkd.clustering.class_count.probe_classes`). There are eight draws of such probe
    classes. In each draw, k-means runs over a growing number of clusters. At the number of
    clusters that agrees best with the probe labels, one more cluster lowers the inertia by some
    amount, the price. The draw votes for the number of clusters of the novel images at which one
    more cluster lowers their inertia by less than this price. The votes are weighted by the
    exponential of half the mean of stability and silhouette, each relative to its trend.

    The estimate is the weighted median. The range spans the 10th to the 90th percentile of the
    votes. On either side of the estimate it spans at least a tenth of the estimate, and at least
    the estimate divided by the square root of the number of known classes, because few known
    classes give little evidence. Without known classes, the estimate is the number with the
    highest stability and silhouette relative to their trend. The range then holds the numbers
    with at least half of that height.

    The price of a cluster grows with the number of its images. The search therefore assumes that
    novel classes are about as large as known classes.

    Args:
        novel: ``(N, D)`` features; their lengths do not matter.
        known: ``(n, D)`` features of known classes, or None.
        labels: ``(n,)`` labels of at least three known classes.
        seed: seed of samples, draws and k-means.
        max_classes: the largest number to try, in [2, N / 2]; None means N / 20, limited to
            [10, 150] and to N / 2.

    Raises:
        InputError: there are fewer than four images, or the largest number is out of range.
    """
    limit = _limit(len(novel), max_classes)
    draw = np.random.default_rng(seed)
    share = min(1.0, MAX_ROWS / max(len(novel), 0 if known is None else len(known)))
    rows = unit_rows(np.asarray(novel, np.float32))
    rows = rows[_sample(len(rows), max(share, min(1.0, 2 * limit / len(rows))), draw)]
    axes = _principal_axes(rows)
    rows = (rows - rows.mean(axis=0)) @ axes
    curve = inertia_curve(rows, cluster_counts(limit), seed=seed, num_restarts=4)
    votes, probes = None, 0
    if known is not None and labels is not None and len(np.unique(labels)) >= 3:
        chosen = _with_fewest(_sample(len(labels), share, draw), labels)
        classes, numbered = np.unique(labels[chosen], return_inverse=True)
        anchors = unit_rows(np.asarray(known, np.float32)[chosen]) @ axes
        votes, probes = _votes(curve, rows, anchors, numbered, seed, draw), len(classes)
    counts = _counts_to_score(votes, limit)
    evidence = Evidence(
        counts,
        None if votes is None else votes[counts] / votes[counts].sum(),
        stabilities(rows, counts, seed=seed),
        silhouettes(rows, _clusterings(curve, rows, counts, seed), seed=seed),
    )
    return _class_count(evidence, votes, probes, limit)


def _limit(count: int, max_classes: int | None) -> int:
    """Return the largest number of classes to try for ``count`` unlabeled images."""
    if count < 4:
        raise InputError(
            f"{counted(count, 'unlabeled image is', 'unlabeled images are')} too few to estimate a "
            "number of classes; give at least 4, or the number itself"
        )
    if max_classes is None:
        return min(150, max(10, count // 20), count // 2)
    if not 2 <= max_classes <= count // 2:
        raise InputError(
            f"the largest number of classes to try is {max_classes} for {count} unlabeled images; "
            f"give 2 to {count // 2}, so that each class has two images"
        )
    return max_classes


def _votes(
    curve: InertiaCurve,
    rows: Floats,
    anchors: Floats,
    labels: NDArray[np.int64],
    seed: int,
    draw: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the fraction of the votes for every number of clusters, ``(limit + 1,)``."""
    from sklearn.metrics import adjusted_rand_score

    wanted = {"crowding_wanted": crowding(rows), "variance_wanted": total_variance(rows)}
    num_known = int(labels.max()) + 1
    fewest = max(3, int(np.ceil(PROBE_SHARE * num_known)))
    votes = np.zeros(int(curve.counts[-1]) + 1)
    for number in range(DRAWS):
        num_probes = int(draw.integers(fewest, num_known + 1))
        chosen = draw.permutation(num_known)[:num_probes]
        members = np.flatnonzero(np.isin(labels, chosen))
        truth = np.unique(labels[members], return_inverse=True)[1]
        probes = probe_classes(anchors[members], truth, **wanted)
        counts = cluster_counts(min(2 * num_probes + 1, len(probes)))
        tried = inertia_curve(probes, counts, seed=seed + number)
        scores = np.array([adjusted_rand_score(truth, a) for a in tried.assignments])
        good = counts[(scores >= scores.max() - PLATEAU) & (counts > 1)]
        highest, lowest = tried.range_of_price(int(good[0]), int(good[-1]))
        floor = highest * 1e-6
        prices = np.geomspace(max(highest, floor), max(lowest, floor), PRICES)
        np.add.at(votes, curve.clusters_worth(prices), 1.0 / (PRICES * DRAWS))
    return votes


def _counts_to_score(votes: NDArray[np.float64] | None, limit: int) -> NDArray[np.int64]:
    """Return the numbers of clusters to examine further: those around the votes, else all."""
    first, last = 2, limit
    if votes is not None:
        low, high = _percentiles(votes)
        first, last = max(2, int(low / 1.5)), min(limit, int(np.ceil(1.5 * high)) + 2)
    spread = np.geomspace(first, last, NUM_COUNTS) if last - first >= NUM_COUNTS else None
    return np.arange(first, last + 1) if spread is None else np.unique(np.rint(spread).astype(int))


def _clusterings(
    curve: InertiaCurve, rows: Floats, counts: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Return a clustering for each of ``counts``, reusing those of the curve where possible."""
    missing = np.setdiff1d(counts, curve.counts)
    found = dict(zip(curve.counts.tolist(), curve.assignments, strict=True))
    for count in missing.tolist():
        found[count] = kmeans(rows, count, seed=seed, num_restarts=2).assignment
    return np.stack([found[count] for count in counts.tolist()])


def _class_count(
    evidence: Evidence, votes: NDArray[np.float64] | None, probes: int, limit: int
) -> ClassCount:
    counts = evidence.counts
    apart = (
        peak_heights(counts, evidence.stability) + peak_heights(counts, evidence.silhouette)
    ) / 2
    if votes is None:
        estimate = int(counts[apart.argmax()])
        near = counts[apart >= apart.max() / 2]
        low, high = int(near[0]), int(near[-1])
    else:
        everywhere = np.arange(len(votes))
        weighted = votes * np.exp(np.interp(everywhere, counts, apart) / 2)
        estimate = int(np.searchsorted(np.cumsum(weighted), weighted.sum() / 2))
        low, high = _percentiles(votes)
    margin = int(np.ceil(estimate * max(0.1, probes**-0.5 if probes else 0.0)))
    low = max(1, min(low, estimate - margin))
    high = min(limit, max(high, estimate + margin))
    return ClassCount(estimate, low, high, evidence, probes, high == limit)


def _percentiles(votes: NDArray[np.float64]) -> tuple[int, int]:
    summed = np.cumsum(votes)
    low, high = np.searchsorted(summed, summed[-1] * np.array([TAILS, 1 - TAILS]))
    return int(low), int(high)


def _sample(size: int, share: float, draw: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(draw.choice(size, min(size, max(1, round(share * size))), replace=False))


def _with_fewest(chosen: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add rows of the classes of which a sample has fewer than :data:`FEWEST_ROWS`."""
    more = [chosen]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rest = np.setdiff1d(members, chosen)
        missing = FEWEST_ROWS - (len(members) - len(rest))
        if missing > 0:
            more.append(rest[even_places(len(rest), missing)])
    return np.sort(np.concatenate(more))


def _principal_axes(rows: Floats) -> Floats:
    """Return the directions of the largest variance of the rows, ``(D, d)``."""
    _, directions = np.linalg.eigh(np.cov(rows, rowvar=False).reshape(rows.shape[1], -1))
    axes: Floats = directions[:, ::-1][:, :MAX_DIMENSIONS].astype(np.float32)
    return np.ascontiguousarray(axes)
