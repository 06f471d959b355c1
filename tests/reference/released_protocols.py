"""The accuracies that released code computes, re-written from their formulas with plain loops.

Read: generalized category discovery (sgvaze/generalized-category-discovery 831a645,
``project_utils/cluster_and_log_utils.py``), UNO (DonkeyShot21/UNO 1634dec, ``utils/eval.py`` and
``main_discover.py``), rKD (kleinzcy/Cr-KD-NCD 0f55bea, ``utils/eval_utils.py``) and class-iNCD
(OatmealLiu/class-iNCD 27c0b99, ``incd_ablation_expt.py``). Where a release divides by zero, because
a group has no image, the value here is None.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

Groups = tuple[float | None, float | None, float | None]
"""All, known ("old", "seen") and novel ("new")."""


def table(predicted: Sequence[int], truth: Sequence[int]) -> list[list[int]]:
    """Count pairs in a square table, as large as the largest id."""
    size = 1 + max([*predicted, *truth], default=-1)
    counts = [[0] * size for _ in range(size)]
    for output, label in zip(predicted, truth, strict=True):
        counts[output][label] += 1
    return counts


def released_matching(predicted: Sequence[int], truth: Sequence[int]) -> dict[int, int]:
    """Match outputs to classes as all releases do: SciPy on the square table of costs."""
    counts = np.array(table(predicted, truth)).reshape(-1, max(1, len(table(predicted, truth))))
    if not counts.size:
        return {}
    outputs, classes = linear_sum_assignment(counts.max() - counts)
    return dict(zip(outputs.tolist(), classes.tolist(), strict=True))


def best_matchings(predicted: Sequence[int], truth: Sequence[int]) -> Iterator[dict[int, int]]:
    """Yield every matching with the most right images, by trying all of them."""
    counts = table(predicted, truth)
    orders = list(itertools.permutations(range(len(counts))))
    totals = [sum(counts[output][label] for output, label in enumerate(o)) for o in orders]
    for order, total in zip(orders, totals, strict=True):
        if total == max(totals):
            yield dict(enumerate(order))


def accuracy(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None


def grouped(right: Sequence[bool], truth: Sequence[int], num_known: int) -> Groups:
    """Accuracy of all, known and novel images; all only where there are both."""
    known = [r for r, label in zip(right, truth, strict=True) if label < num_known]
    novel = [r for r, label in zip(right, truth, strict=True) if label >= num_known]
    return accuracy(right) if known and novel else None, accuracy(known), accuracy(novel)


def under(
    matching: dict[int, int], predicted: Sequence[int], truth: Sequence[int], num_known: int
) -> Groups:
    """Accuracies under a matching of outputs to classes."""
    right = [matching[p] == t for p, t in zip(predicted, truth, strict=True)]
    return grouped(right, truth, num_known)


def cluster_accuracy(predicted: Sequence[int], truth: Sequence[int]) -> float | None:
    """UNO ``unlab``, rKD ``cluster_eval``: the matching of the scored images."""
    return under(released_matching(predicted, truth), predicted, truth, 0)[2]


def gcd_v2(predicted: Sequence[int], truth: Sequence[int], num_known: int) -> Groups:
    """GCD v2 and rKD v2: one matching of all images."""
    return under(released_matching(predicted, truth), predicted, truth, num_known)


def split(
    predicted: Sequence[int], truth: Sequence[int], num_known: int, *, novel: bool
) -> tuple[list[int], list[int]]:
    """The images of known or of novel classes."""
    chosen = [
        pair for pair in zip(predicted, truth, strict=True) if (pair[1] >= num_known) == novel
    ]
    return [p for p, _ in chosen], [t for _, t in chosen]


def gcd_v1(predicted: Sequence[int], truth: Sequence[int], num_known: int) -> Groups:
    """GCD v1: a matching for each group; the total is their mean, weighted by images."""
    known = split(predicted, truth, num_known, novel=False)
    novel = split(predicted, truth, num_known, novel=True)
    old, new = cluster_accuracy(*known), cluster_accuracy(*novel)
    if old is None or new is None:
        return None, old, new
    weight = len(known[0]) / len(truth)
    return weight * old + (1 - weight) * new, old, new


def uno_incremental(
    predicted: Sequence[int], truth: Sequence[int], num_known: int
) -> tuple[float | None, float | None]:
    """UNO ``incremental/lab`` (no matching) and ``incremental/unlab`` (its own matching)."""
    known = split(predicted, truth, num_known, novel=False)
    novel, labels = split(predicted, truth, num_known, novel=True)
    # The release subtracts the smallest label.
    shifted = [label - min(labels) for label in labels]
    return accuracy([p == t for p, t in zip(*known, strict=True)]), cluster_accuracy(novel, shifted)


def rkd_v1(predicted: Sequence[int], truth: Sequence[int], num_known: int) -> Groups:
    """The rule of each group is another: one matching, no matching, a matching of its own."""
    seen, novel = uno_incremental(predicted, truth, num_known)
    both = seen is not None and novel is not None
    return cluster_accuracy(predicted, truth) if both else None, seen, novel


def rkd_v3(predicted: Sequence[int], truth: Sequence[int], num_known: int) -> Groups:
    """Known outputs are their classes; a matching of novel outputs and novel classes alone."""
    pairs = [(p, t) for p, t in zip(predicted, truth, strict=True) if min(p, t) >= num_known]
    found = released_matching([p - num_known for p, _ in pairs], [t - num_known for _, t in pairs])
    matching = {output: label + num_known for output, label in found.items()}
    right = [
        p == t if p < num_known else matching.get(p - num_known) == t
        for p, t in zip(predicted, truth, strict=True)
    ]
    return grouped(right, truth, num_known)


def frozen(
    clusters: dict[int, int], predicted: Sequence[int], truth: Sequence[int], num_known: int
) -> Groups:
    """class-iNCD: known outputs are their classes, novel ones those of a map fitted before.

    The release renames labels by the inverse map: the same for as many clusters as classes.
    """
    right = [
        p == t if p < num_known else clusters.get(p - num_known) == t
        for p, t in zip(predicted, truth, strict=True)
    ]
    return grouped(right, truth, num_known)
