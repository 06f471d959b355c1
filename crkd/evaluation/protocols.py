"""The four ways of scoring a model that has found new classes.

They answer different questions and their figures must not be mixed; ``docs/evaluation.md``
defines each of them and works one example by hand.

Joint ids: classes ``[0, K)`` are known, true novel classes follow. A joint head has the outputs
``[0, K)`` for the known classes and ``[K, K + M)`` for its M novel clusters; which true class a
novel cluster stands for is what a protocol decides. M need not equal the number of true novel
classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.matching import Ids, contingency, match
from crkd.evaluation.scores import Score, class_accuracy, score


@dataclass(frozen=True)
class Outcome:
    """What one protocol says of one part of the data.

    Attributes:
        groups: "all", "known", "novel" (those that the protocol has) -> measures.
        class_accuracy: ``(num_classes,)`` share right of every joint class, NaN where the part
            has no image of it or the protocol says nothing of it.
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
    """Score the novel head on novel images, matched to these very images' classes.

    It is given which images are novel. The headline figure of UNO and of rKD is this one, on
    the training images.

    Args:
        novel_head: ``(N,)`` cluster ids in ``[0, num_novel)``.
        truth: ``(N,)`` joint class ids, -1 where unknown; known and unknown images are left out.
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
    """Name every novel cluster by Hungarian matching on the novel images among those given.

    Args:
        novel_head: ``(N,)`` cluster ids in ``[0, num_novel)``.
        truth: ``(N,)`` joint class ids, -1 where unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        ``(num_novel,)`` joint class id of each cluster, -1 for none; None when no novel image
        has a label.
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
    """Score the joint head with a map that was fitted elsewhere and is frozen.

    Known outputs stand for themselves, novel outputs go through ``cluster_map``. Nothing is
    fitted to the images that are scored. The rule is FRoST's (Roy et al., ECCV 2022).

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 where unknown.
        cluster_map: ``(M,)`` from :func:`fit_cluster_map` on the novel training images; None
            when these have no labels, then only the group "known" can be scored.
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
    return _joint_outcome(predicted, outputs, true, num_known, num_classes)


def apply_cluster_map(
    joint_head: Ids, cluster_map: NDArray[np.int64] | None, *, num_known: int
) -> NDArray[np.int64]:
    """Return the joint class of every joint output, -1 for a novel cluster without a class."""
    predicted = joint_head.astype(np.int64)
    novel = joint_head >= num_known
    predicted[novel] = -1 if cluster_map is None else cluster_map[joint_head[novel] - num_known]
    return predicted


def joint_hungarian(
    joint_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> Outcome:
    """Score the joint head under one matching of all its outputs to all classes.

    The matching is fitted to the scored images themselves, and a known output may end up with
    another class. The test figure of rKD's released code and of generalized category discovery
    (Vaze et al., CVPR 2022).

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 where unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel".
    """
    labeled = truth >= 0
    outputs, true = joint_head[labeled], truth[labeled]
    class_of = match(contingency(outputs, true, num_known + num_novel, num_classes))
    return _joint_outcome(class_of[outputs], outputs, true, num_known, num_classes)


def supervised(known_head: Ids, truth: Ids, *, num_known: int, num_classes: int) -> Outcome:
    """Score the known head on known images, without any matching.

    Args:
        known_head: ``(N,)`` class ids in ``[0, K)``.
        truth: ``(N,)`` joint class ids, -1 where unknown; novel images are left out.
        num_known: K.
        num_classes: K + the number of true novel classes.

    Returns:
        The group "known".
    """
    known = (truth >= 0) & (truth < num_known)
    predicted, true = known_head[known], truth[known]
    group = score(predicted, true, range(num_known))
    return Outcome({"known": group}, class_accuracy(predicted, true, num_classes))


def _joint_outcome(
    predicted: Ids,
    outputs: Ids,
    true: Ids,
    num_known: int,
    num_classes: int,
) -> Outcome:
    known = score(predicted, true, range(num_known), clusters=outputs)
    novel = score(predicted, true, range(num_known, num_classes), clusters=outputs)
    both = bool(known["num_images"]) and bool(novel["num_images"])
    # "all" of a part that lacks one of the two groups would be read as something it is not.
    everything = range(num_classes) if both else range(0)
    return Outcome(
        {
            "all": score(predicted, true, everything, clusters=outputs),
            "known": known,
            "novel": novel,
        },
        class_accuracy(predicted, true, num_classes),
    )
