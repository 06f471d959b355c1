"""Scoring rules with a fixed map, or for one head; :mod:`crkd.evaluation.hungarian` has the others.

The protocols measure different things, and their results must not be mixed.
:mod:`crkd.evaluation.protocol_list` names each of them with its source, and ``docs/evaluation.md``
defines them with an example.

Joint ids: classes ``[0, K)`` are known, true novel classes follow. A joint head has the outputs
``[0, K)`` for the known classes and ``[K, K + M)`` for its M novel clusters. The protocol
determines which true class a novel cluster is matched to. M can differ from the number of true
novel classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.matching import Ids, contingency, match
from crkd.evaluation.scores import Score, class_accuracy, score


@dataclass(frozen=True)
class Outcome:
    """Result of one protocol on one part of the data.

    Attributes:
        groups: "all", "known", "novel" (those that the protocol has) -> scores.
        class_accuracy: ``(num_classes,)`` accuracy of every joint class, NaN if the part has no
            image of it or the protocol does not score it.
    """

    groups: dict[str, Score]
    class_accuracy: NDArray[np.float64]


def task_aware(
    novel_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> Outcome:
    """Score the novel head on novel images, matched to the classes of these images.

    The protocol is given which images are novel. UNO and rKD report this result, on the training
    images.

    Args:
        novel_head: ``(N,)`` cluster ids in ``[0, num_novel)``.
        truth: ``(N,)`` joint class ids, -1 if unknown; images of known and unknown class are left
            out.
        num_known: K.
        num_novel: M, the number of clusters.
        num_classes: K + the number of true novel classes.

    Returns:
        The group "novel".
    """
    novel = truth >= num_known
    clusters, true = novel_head[novel], truth[novel]
    class_of = fit_cluster_map(
        clusters, true, num_known=num_known, num_novel=num_novel, num_classes=num_classes
    )
    predicted = true if class_of is None else class_of[clusters]
    group = score(predicted, true, range(num_known, num_classes), clusters=clusters)
    return Outcome({"novel": group}, class_accuracy(predicted, true, num_classes))


def fit_cluster_map(
    novel_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> NDArray[np.int64] | None:
    """Match every novel cluster to a class by Hungarian matching on the given novel images.

    Args:
        novel_head: ``(N,)`` cluster ids in ``[0, num_novel)``.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        ``(num_novel,)`` joint class id of each cluster, -1 for none; None if no novel image has a
        label.
    """
    novel = truth >= num_known
    if not novel.any():
        return None
    classes = match(
        contingency(novel_head[novel], truth[novel] - num_known, num_novel, num_classes - num_known)
    )
    return np.where(classes >= 0, classes + num_known, -1)


def task_agnostic(
    joint_head: Ids,
    truth: Ids,
    cluster_map: NDArray[np.int64] | None,
    *,
    num_known: int,
    num_classes: int,
) -> Outcome:
    """Score the joint head with a fixed map that was fitted on other images.

    Known outputs are the known classes, and ``cluster_map`` maps novel outputs to classes. Nothing
    is fitted to the scored images. This is the rule of FRoST (Roy et al., ECCV 2022).

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        cluster_map: ``(M,)`` from :func:`fit_cluster_map` on the novel training images; None
            if these have no labels. Then only the group "known" can be scored.
        num_known: K.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel".
    """
    labeled = truth >= 0
    if cluster_map is None:
        labeled &= truth < num_known
    outputs, true = joint_head[labeled], truth[labeled]
    predicted = apply_cluster_map(outputs, cluster_map, num_known=num_known)
    return joint_outcome(predicted, outputs, true, num_known=num_known, num_classes=num_classes)


def apply_cluster_map(
    joint_head: Ids, cluster_map: NDArray[np.int64] | None, *, num_known: int
) -> NDArray[np.int64]:
    """Return the joint class of every joint output, -1 for a novel cluster without a class."""
    predicted = joint_head.astype(np.int64)
    novel = joint_head >= num_known
    predicted[novel] = -1 if cluster_map is None else cluster_map[joint_head[novel] - num_known]
    return predicted


def supervised(known_head: Ids, truth: Ids, *, num_known: int, num_classes: int) -> Outcome:
    """Score the known head on known images, without any matching.

    Args:
        known_head: ``(N,)`` class ids in ``[0, K)``.
        truth: ``(N,)`` joint class ids, -1 if unknown; novel images are left out.
        num_known: K.
        num_classes: K + the number of true novel classes.

    Returns:
        The group "known".
    """
    known = (truth >= 0) & (truth < num_known)
    predicted, true = known_head[known], truth[known]
    group = score(predicted, true, range(num_known))
    return Outcome({"known": group}, class_accuracy(predicted, true, num_classes))


def joint_outcome(
    predicted: Ids,
    outputs: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_classes: int,
) -> Outcome:
    """Score the classes that a protocol gives to the outputs of a joint head.

    Args:
        predicted: ``(N,)`` class ids, -1 for none.
        outputs: ``(N,)`` output ids before the map to classes.
        truth: ``(N,)`` joint class ids, none of them unknown.
        num_known: K.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel". "all" has no score if one of the others has no image,
        because it would be misleading.
    """
    known = score(predicted, truth, range(num_known), clusters=outputs)
    novel = score(predicted, truth, range(num_known, num_classes), clusters=outputs)
    both = bool(known["num_images"]) and bool(novel["num_images"])
    everything = range(num_classes) if both else range(0)
    return Outcome(
        {
            "all": score(predicted, truth, everything, clusters=outputs),
            "known": known,
            "novel": novel,
        },
        class_accuracy(predicted, truth, num_classes),
    )
