"""Choice of the discovery method by a contest on known classes with hidden labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.whitening import whitened_spaces
from crkd.core.counted import counted
from crkd.data.storage.workers import parallel
from crkd.evaluation.matching import clustering_accuracy
from crkd.runs.console import format_duration
from crkd.stages.vectors.candidates import CANDIDATES, FLOOR, UNDECIDED
from crkd.stages.vectors.discovery_input import WIDTHS, DiscoveryInput

DRAWS = 4
CLEARLY = 0.5
"""Percent by which a candidate must beat k-means to be taken in its place."""
FEWEST_KNOWN = 3
"""Known classes of a contest: two to hide, and one to whiten by."""
MOST_ROWS = 10_000
"""Hidden vectors of a draw; of more, an even share of every class takes part."""
ROWS_OF_THREADS = 1_000
"""Known vectors from which draws run in threads; with fewer, threads wait for the interpreter."""
LONG_SECONDS = 10.0
"""Time left from which on it is announced after a draw."""


@dataclass(frozen=True)
class Score:
    """Accuracy of a candidate.

    Attributes:
        candidate: its name.
        accuracies: percent of the hidden known vectors in the right cluster, one for each draw.
    """

    candidate: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the accuracies."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class Contest:
    """The table of a contest and what follows from it.

    Attributes:
        scores: of every candidate, the best first; empty where there was no contest.
        hidden: the known classes that each draw hid.
        chosen: name of the candidate that is taken.
        reason: one sentence.
    """

    scores: tuple[Score, ...]
    hidden: tuple[tuple[int, ...], ...]
    chosen: str
    reason: str

    def plain(self) -> dict[str, Any]:
        """Return the contest as data for a file."""
        return {
            "chosen": self.chosen,
            "reason": self.reason,
            "hidden": [list(classes) for classes in self.hidden],
            "scores": {score.candidate: list(score.accuracies) for score in self.scores},
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> Contest:
        """Return a contest from :meth:`plain`."""
        scores = tuple(Score(name, tuple(values)) for name, values in data["scores"].items())
        hidden = tuple(tuple(classes) for classes in data["hidden"])
        return cls(scores, hidden, data["chosen"], data["reason"])


def hold_contest(
    known: Floats,
    labels: NDArray[np.int64],
    shares: Sequence[float] = (1.0,),
    *,
    seed: int,
    log: Callable[[str], None] = lambda line: None,
) -> Contest:
    """Hide known classes, let every candidate discover them, and choose the best.

    In each draw half of the known classes, two or more, take the part of the novel ones; the others
    stay known. The labels of the hidden ones are read to count what was found, and to thin the
    classes to the sizes that the novel ones seem to have. No vector of a novel class takes part.

    The candidate of the highest mean is taken; of those less than half a percent below it, the
    first in the order of the candidates. Where it is not half a percent better than k-means, and
    where fewer than three known classes leave nothing to hide, it is the consensus of heads and
    k-means; k-means itself where that is best.

    Args:
        known: ``(n, D)`` float32.
        labels: ``(n,)`` int64 in ``[0, K)``.
        shares: sizes of the novel classes, in parts of the largest
            (:func:`~crkd.stages.vectors.sizes.estimated_class_shares`).
        seed: of the draws and of the candidates.
        log: receives what is done, and the time left.
    """
    num_known = int(labels.max()) + 1
    if num_known < FEWEST_KNOWN:
        classes = counted(num_known, "known class is", "known classes are")
        reason = f"{classes} too few to hide some; no contest was held"
        return Contest((), (), UNDECIDED, reason)
    hidden = tuple(_draws(num_known, seed))
    found: dict[str, list[float]] = {name: [] for name in CANDIDATES}

    def draw(number: int) -> dict[str, float]:
        classes = hidden[number]
        inputs, truth = _hide(known, labels, classes, shares, seed + number)
        scores = {}
        for name, candidate in CANDIDATES.items():
            logits = candidate(inputs, seed + number).logits(inputs.novel)
            scores[name] = 100 * clustering_accuracy(logits.argmax(axis=1), truth)
        return scores

    log(f"contest of {len(CANDIDATES)} methods on hidden known classes: {len(hidden)} draws")
    began = time.monotonic()
    draws = parallel if len(known) >= ROWS_OF_THREADS else map
    for done, scores_of_draw in enumerate(draws(draw, range(len(hidden))), 1):
        for name, value in scores_of_draw.items():
            found[name].append(value)
        left = (time.monotonic() - began) / done * (len(hidden) - done)
        if left >= LONG_SECONDS:
            log(f"contest: {done} of {len(hidden)} draws, about {format_duration(left)} left")
    # Sorting keeps the order of equally good ones.
    scores = sorted((Score(n, tuple(a)) for n, a in found.items()), key=lambda s: -s.mean)
    floor = next(score for score in scores if score.candidate == FLOOR)
    chosen, reason = _choice(scores, floor)
    if min(shares) < 1:
        reason += (
            f"; the smallest novel class seems to have {100 * min(shares):.0f} % of the samples of "
            "the largest, so hidden classes were thinned alike"
        )
    return Contest(tuple(scores), hidden, chosen, reason)


def _choice(scores: list[Score], floor: Score) -> tuple[str, str]:
    """Return the candidate that is taken, and why.

    Args:
        scores: of all candidates, the best first.
        floor: that of k-means.
    """
    best = scores[0].mean
    if best == floor.mean and best < 100 - CLEARLY:
        return FLOOR, f"no candidate beats k-means ({floor.mean:.1f} %)"
    if best - floor.mean < CLEARLY:
        reason = f"no candidate clearly beats k-means ({floor.mean:.1f} %); several are combined"
        return UNDECIDED, reason
    least = max(best - CLEARLY, floor.mean + CLEARLY)
    near = {score.candidate: score.mean for score in scores if score.mean >= least}
    name = next(name for name in CANDIDATES if name in near)
    reason = f"it found hidden known classes best: {near[name]:.1f} %, k-means {floor.mean:.1f} %"
    return name, reason


def _draws(num_known: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Yield the classes of each draw: both halves of a random order, then of another."""
    size = max(2, num_known // 2)
    draw = np.random.default_rng([seed, 1])
    for _ in range(math.ceil(DRAWS / 2)):
        order = draw.permutation(num_known)
        yield tuple(sorted(order[:size].tolist()))
        yield tuple(sorted(order[-size:].tolist()))


def _hide(
    known: Floats,
    labels: NDArray[np.int64],
    classes: tuple[int, ...],
    shares: Sequence[float],
    seed: int,
) -> tuple[DiscoveryInput, NDArray[np.int64]]:
    """Return the inputs of a draw, and the hidden truth in ``[0, len(classes))``."""
    inside = np.isin(labels, classes)
    rows = np.sort(_thinned(labels, classes, shares, seed))
    kept = np.unique(labels[~inside], return_inverse=True)[1].astype(np.int64)
    truth = np.searchsorted(classes, labels[rows])
    space, wide = whitened_spaces(known[~inside], kept, known[rows], WIDTHS)
    return DiscoveryInput(known[rows], len(classes), space, wide, seed), truth


def _thinned(
    labels: NDArray[np.int64], classes: tuple[int, ...], shares: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Return rows of the hidden classes, with sizes like those of the novel ones in random order.

    The sizes are read off evenly where the hidden classes are fewer. Of every class an even share
    of its rows takes part, two at least.
    """
    places = np.linspace(0, len(shares) - 1, len(classes)).round().astype(np.int64)
    parts = np.random.default_rng([seed, 2]).permutation(np.sort(shares)[places])
    rows = [np.flatnonzero(labels == label) for label in classes]
    sizes = np.array([len(part) for part in rows])
    wanted = np.maximum(sizes * parts, np.minimum(sizes, 2))
    wanted = wanted * min(1.0, MOST_ROWS / wanted.sum())
    return np.concatenate(
        [
            part[np.linspace(0, len(part) - 1, max(1, round(size))).round().astype(np.int64)]
            for part, size in zip(rows, wanted.tolist(), strict=True)
        ]
    )
