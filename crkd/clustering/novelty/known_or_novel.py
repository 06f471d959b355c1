"""Known or novel: which unlabeled samples belong to the known classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans
from crkd.clustering.logistic import logistic_regression
from crkd.clustering.neighbors import nearest_neighbors
from crkd.clustering.novelty.energy import energy_scores
from crkd.clustering.novelty.mixture_share import Doubles, known_share
from crkd.clustering.novelty.relative_mahalanobis import fit_relative_mahalanobis
from crkd.clustering.whitening import WhitenedSpace, whitened_spaces
from crkd.core.counted import counted
from crkd.core.errors import InputError

WIDTHS = (32, 256)
ROWS_PER_DIMENSION = 10
"""Labeled samples for each dimension of the whitened space: with fewer, their own noise would set
labeled samples apart from unlabeled ones of the same class."""
NEIGHBOR_SHARE = 0.16
"""Of the samples of a known class of average size: so many neighbors are looked at."""
NEIGHBORS = (5, 40)
CLUSTERS = 40
"""Clusters of the samples that do not look known, at most: one class each of the classifier."""
CLUSTER_ROWS = 10
FOLDS = 5
DISTANCE_WEIGHT = 1 / 3
"""Weight of the estimate by distance; the classifier has the rest."""
MOST_ROWS = 20_000
"""Samples that a classifier is fitted to, at most."""

Labeled = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class KnownCheck:
    """Decisions on N unlabeled samples.

    Attributes:
        looks_known: ``(N,)`` bool; as many as the share says, those of the lowest scores.
        scores: ``(N,)`` novelty scores, higher for samples of novel classes.
        share: estimated share of samples of known classes, in [0, 1].
    """

    looks_known: NDArray[np.bool_]
    scores: Doubles
    share: float

    @property
    def count(self) -> int:
        """Number of samples that look known."""
        return int(self.looks_known.sum())


def known_check(
    labeled: Floats,
    labels: NDArray[np.int64],
    unlabeled: Floats,
    *,
    seed: int,
    shaping: Labeled | None = None,
) -> KnownCheck:
    """Decide for each unlabeled sample whether it belongs to a known class.

    The unlabeled set itself is evidence. A sample of a known class has labeled samples around it,
    a sample of a novel class has unlabeled ones.

    1. Distances of labeled and unlabeled samples from the known classes, whose Gaussians other
       labeled samples gave, and the shares of unlabeled samples among their nearest neighbors
       each give a known share (:func:`.mixture_share.known_share`). The space is whitened by the
       labeled samples.
    2. The samples that do not look known by their neighbors, with the larger of these two shares,
       are clustered. A logistic regression separates the known classes and these clusters. In each
       of five folds it scores samples that it was not fitted to: log-odds of all clusters against
       all known classes. They give a third share.
    3. The known share is a weighted mean of the first and the third. Distances overestimate it
       where novel classes are near; the classifier underestimates it where the unlabeled samples
       differ a little from the labeled ones of their class. The samples of the lowest log-odds are
       known.

    Features of a network that was trained on the labeled images will not do, since they differ from
    those of other images of the same classes. Those of held-out images do.

    Args:
        labeled: ``(n, D)`` features of known classes.
        labels: ``(n,)`` classes in ``[0, K)``, each at least once.
        unlabeled: ``(N, D)`` features, known and novel ones mixed.
        seed: of clusters and folds.
        shaping: features ``(s, D)`` and classes of other samples, by which the space is whitened
            in place of the labeled ones, such as those that trained the network.

    Raises:
        InputError: there are fewer than five labeled samples of a class on average, or no
            unlabeled ones.
    """
    _check_counts(labeled, labels, unlabeled)
    distance_share = _distance_share(labeled, labels, unlabeled, shaping, seed)
    return _decided(distance_share, (labeled, labels), unlabeled, shaping, seed)


def mostly_known(
    labeled: Floats, labels: NDArray[np.int64], unlabeled: Floats, *, least: float, seed: int
) -> KnownCheck | None:
    """Return :func:`known_check` of a set with at least a share of known samples, else None.

    The estimate by distance takes a small part of the time, and rules out most other sets.

    Args:
        labeled: ``(n, D)`` features of known classes.
        labels: ``(n,)`` classes in ``[0, K)``, each at least once.
        unlabeled: ``(N, D)`` features.
        least: the share, in [0, 1].
        seed: of clusters and folds.

    Raises:
        InputError: as :func:`known_check`.
    """
    _check_counts(labeled, labels, unlabeled)
    distance_share = _distance_share(labeled, labels, unlabeled, None, seed)
    if _weighted(distance_share, 1.0) < least:
        return None
    check = _decided(distance_share, (labeled, labels), unlabeled, None, seed)
    return check if check.share >= least else None


def _check_counts(labeled: Floats, labels: NDArray[np.int64], unlabeled: Floats) -> None:
    num_known = int(labels.max(initial=-1)) + 1
    if len(labeled) < NEIGHBORS[0] * max(num_known, 1):
        classes = counted(num_known, "known class", "known classes")
        raise InputError(
            f"{len(labeled)} labeled samples of {classes} are too few to find known classes among "
            f"unlabeled samples; give at least {NEIGHBORS[0]} a class"
        )
    if len(unlabeled) == 0:
        raise InputError("there are no unlabeled samples to check; give some")


def _weighted(distance_share: float, share: float) -> float:
    """Return the known share by the estimates of the distance and of the classifier."""
    return share + DISTANCE_WEIGHT * (distance_share - share)


def _decided(
    distance_share: float, samples: Labeled, unlabeled: Floats, shaping: Labeled | None, seed: int
) -> KnownCheck:
    """Return the decisions, given the share by distance; see :func:`known_check`."""
    labeled, labels = samples
    num_known = int(labels.max()) + 1
    space = _space(shaping or samples, unlabeled)
    rows = np.concatenate([space.rows(labeled), space.rows(unlabeled)])
    count = len(labeled)
    low, high = NEIGHBORS
    neighbors = min(max(round(NEIGHBOR_SHARE * count / num_known), low), high)
    novelty = np.mean(nearest_neighbors(rows, neighbors, seed=seed) >= count, axis=1)
    share = known_share(-novelty[:count], -novelty[count:])
    novel = np.flatnonzero(~_lowest(novelty[count:], max(share, distance_share)))
    clusters = min(CLUSTERS, len(novel) // CLUSTER_ROWS)
    if clusters:
        found = kmeans(rows[count + novel], clusters, seed=seed, num_restarts=3).assignment
        groups = np.full(len(rows), -1, np.int64)
        groups[:count] = labels
        groups[count + novel] = num_known + found
        novelty = _log_odds(rows, groups, num_known, num_known + clusters, seed)
        share = known_share(-novelty[:count], -novelty[count:])
    share = _weighted(distance_share, share)
    return KnownCheck(_lowest(novelty[count:], share), novelty[count:], share)


def _space(fitted: Labeled, unlabeled: Floats) -> WhitenedSpace:
    width = min(max(len(fitted[1]) // ROWS_PER_DIMENSION, WIDTHS[0]), WIDTHS[1])
    return whitened_spaces(*fitted, unlabeled, [width])[0]


def _distance_share(
    labeled: Floats,
    labels: NDArray[np.int64],
    unlabeled: Floats,
    shaping: Labeled | None,
    seed: int,
) -> float:
    """Return the known share by distances from classes that other labeled samples gave.

    Without such samples, each half of the labeled ones takes their place for the other half.
    """
    if shaping is not None:
        pairs = [(shaping, labeled)]
    else:
        draw = np.random.default_rng([seed, 6])
        order = np.lexsort((draw.permutation(len(labels)), labels))
        halves = [np.sort(order[::2]), np.sort(order[1::2])]
        parts = [
            (labeled[half], np.unique(labels[half], return_inverse=True)[1].astype(np.int64))
            for half in halves
        ]
        pairs = [(parts[0], parts[1][0]), (parts[1], parts[0][0])]
    shares = []
    for fitted, held in pairs:
        space = _space(fitted, unlabeled)
        classes = fit_relative_mahalanobis(space.rows(fitted[0]), fitted[1])
        scores = (-classes.novelty_score(space.rows(rows)) for rows in (held, unlabeled))
        shares.append(known_share(*scores))
    return float(np.mean(shares))


def _lowest(scores: Doubles, share: float) -> NDArray[np.bool_]:
    """Return the mask of the share of lowest scores, ``(N,)``."""
    mask = np.zeros(len(scores), np.bool_)
    mask[np.argsort(scores, kind="stable")[: round(share * len(scores))]] = True
    return mask


def _log_odds(
    rows: Floats, groups: NDArray[np.int64], num_known: int, num_groups: int, seed: int
) -> Doubles:
    """Return log-odds of all later groups against the first ``num_known``, ``(N,)``.

    Rows of group -1 are scored, and no classifier is fitted to them.
    """
    draw = np.random.default_rng([seed, 4])
    order = np.lexsort((draw.permutation(len(rows)), groups))
    fold = np.empty(len(rows), np.int64)
    fold[order] = np.arange(len(rows)) % FOLDS
    scores = np.empty(len(rows))
    for number in range(FOLDS):
        fit = np.flatnonzero((fold != number) & (groups >= 0))
        if len(fit) > MOST_ROWS:
            fit = draw.choice(fit, MOST_ROWS, replace=False)
        weights, biases = logistic_regression(rows[fit], groups[fit], num_groups)
        held = fold == number
        logits = rows[held] @ weights + biases
        scores[held] = energy_scores(logits[:, :num_known]) - energy_scores(logits[:, num_known:])
    return scores
