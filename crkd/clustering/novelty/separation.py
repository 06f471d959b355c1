"""Separation of known and novel classes, measured on known classes that are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.known_or_novel import Labeled, known_check
from crkd.core.counted import counted
from crkd.core.errors import InputError

DRAWS = 4
FEWEST_KNOWN = 3
WEAK = 0.75
"""AUROC below which known and novel samples cannot be separated."""
SHARES = (0.25, 0.75)
"""Bounds of the known share of a draw: both kinds have to be there to be counted."""
MOST_ROWS = 4_000
"""Samples that play the unlabeled ones in a draw, at most."""


@dataclass(frozen=True)
class Separation:
    """Quality of :func:`.known_or_novel.known_check` on hidden known classes, a mean over draws.

    Attributes:
        auroc: probability that a sample of a hidden class has a higher novelty score than one of a
            known class, in [0, 1].
        error: share of wrong decisions, in [0, 1].
        share_error: mean absolute error of the estimated known share, in [0, 1].
    """

    auroc: float
    error: float
    share_error: float

    @property
    def is_weak(self) -> bool:
        """Whether the decisions cannot be trusted."""
        return self.auroc < WEAK


def measure_separation(
    labeled: Floats,
    labels: NDArray[np.int64],
    share: float,
    *,
    seed: int,
    shaping: Labeled | None = None,
) -> Separation:
    """Hide known classes, mix them with others, and count what the check finds.

    In each of four draws half of the known classes play the novel ones. Of the other classes, one
    half of the samples stays labeled and the other half plays the unlabeled ones.

    Args:
        labeled: ``(n, D)`` features of known classes.
        labels: ``(n,)`` classes in ``[0, K)``, each at least once.
        share: known share that the mixtures have, moved into [0.25, 0.75].
        seed: of the draws.
        shaping: see :func:`.known_or_novel.known_check`; of the same classes.

    Raises:
        InputError: fewer than three known classes, or too few samples of them.
    """
    from sklearn.metrics import roc_auc_score

    num_known = int(labels.max(initial=-1)) + 1
    if num_known < FEWEST_KNOWN:
        classes = counted(num_known, "known class is", "known classes are")
        raise InputError(
            f"{classes} too few to measure how well known and novel samples are separated; at "
            f"least {FEWEST_KNOWN} are needed"
        )
    share = min(max(share, SHARES[0]), SHARES[1])
    results = []
    for number in range(DRAWS):
        draw = np.random.default_rng([seed, 5, number])
        order = draw.permutation(num_known)
        hidden = np.isin(labels, order[: num_known // 2])
        fitted = None if shaping is None else _without(shaping, order[: num_known // 2])
        inside = draw.permutation(np.flatnonzero(~hidden))
        kept, known = inside[::2], inside[1::2]
        novel = draw.permutation(np.flatnonzero(hidden))
        total = min(MOST_ROWS, len(known) / share, len(novel) / (1 - share))
        known, novel = known[: round(share * total)], novel[: round((1 - share) * total)]
        numbered = np.unique(labels[kept], return_inverse=True)[1].astype(np.int64)
        mixture = np.concatenate([labeled[known], labeled[novel]])
        check = known_check(labeled[kept], numbered, mixture, seed=seed, shaping=fitted)
        truth = np.arange(len(mixture)) >= len(known)
        results.append(
            (
                float(roc_auc_score(truth, check.scores)),
                float(np.mean(check.looks_known == truth)),
                abs(check.share - len(known) / len(mixture)),
            )
        )
    return Separation(*np.mean(results, axis=0).tolist())


def _without(rows: Labeled, classes: NDArray[np.int64]) -> Labeled:
    """Return the rows of all other classes, numbered without a gap."""
    kept = ~np.isin(rows[1], classes)
    return rows[0][kept], np.unique(rows[1][kept], return_inverse=True)[1].astype(np.int64)
