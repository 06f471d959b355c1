"""Scoring rules whose matching is fitted to the scored images themselves.

Joint ids are those of :mod:`crkd.evaluation.protocols`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from crkd.evaluation.matching import Ids, check_range, contingency, match
from crkd.evaluation.protocols import Outcome, apply_cluster_map, fit_cluster_map, joint_outcome


class _Sizes(NamedTuple):
    """Numbers of classes of a rule: K, M and K + the number of true novel classes."""

    num_known: int
    num_novel: int
    num_classes: int


def _scored(rule: Callable[[Ids, Ids], Ids], joint_head: Ids, truth: Ids, sizes: _Sizes) -> Outcome:
    """Score the classes that a rule gives to the images with a label.

    Args:
        rule: outputs and true classes of n images -> ``(n,)`` classes, -1 for none.
        joint_head: ``(N,)`` output ids.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        sizes: of the rule.

    Raises:
        InputError: an output id is not in ``[0, K + M)``.
    """
    labeled = truth >= 0
    outputs, true = joint_head[labeled], truth[labeled]
    check_range(outputs, sizes.num_known + sizes.num_novel, "joint_head")
    return joint_outcome(
        rule(outputs, true),
        outputs,
        true,
        num_known=sizes.num_known,
        num_classes=sizes.num_classes,
    )


def joint_hungarian(
    joint_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> Outcome:
    """Score the joint head under one matching of all its outputs to all classes.

    The matching is fitted to the scored images themselves, so a known output may be matched to
    another class. This is v2 of generalized category discovery (Vaze et al., CVPR 2022;
    ``split_cluster_acc_v2`` of its release) on the unlabeled training images, and the result of
    rKD's release on the test images.

    "all" has one value. "known" and "novel" can depend on the choice among several best matchings.
    The choice is that of the releases: SciPy's on a square table, as large as the largest id.

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel".

    Raises:
        InputError: an output id is not in ``[0, K + M)``.
    """

    def one_matching(outputs: Ids, true: Ids) -> Ids:
        size = 1 + max(outputs.max(initial=-1), true.max(initial=-1))
        class_of = match(contingency(outputs, true, size, size))
        # The square has classes that do not exist; an output matched to one of them has no class.
        class_of[class_of >= num_classes] = -1
        return class_of[outputs]

    return _scored(one_matching, joint_head, truth, _Sizes(num_known, num_novel, num_classes))


def separate_hungarian(
    joint_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> Outcome:
    """Score the joint head under two matchings: of images of known and of images of novel classes.

    The protocol is given which images are novel, and an output can be right for a known and for a
    novel class. This is v1 of generalized category discovery (Vaze et al., CVPR 2022;
    ``split_cluster_acc_v1`` of its release). The group "novel" alone is ``incremental/unlab`` of
    UNO's release, and "novel" of ``split_cluster_acc_v1`` in rKD's release.

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel"; "all" is the mean of both groups, weighted by images.
    """

    def two_matchings(outputs: Ids, true: Ids) -> Ids:
        predicted = np.full(len(true), -1, dtype=np.int64)
        for group in (true < num_known, true >= num_known):
            counts = contingency(outputs[group], true[group], num_known + num_novel, num_classes)
            predicted[group] = match(counts)[outputs[group]]
        return predicted

    return _scored(two_matchings, joint_head, truth, _Sizes(num_known, num_novel, num_classes))


def novel_hungarian(
    joint_head: Ids,
    truth: Ids,
    *,
    num_known: int,
    num_novel: int,
    num_classes: int,
) -> Outcome:
    """Score the joint head with known outputs as their classes and novel outputs matched.

    The matching is fitted to the scored images themselves: to the images of novel classes that
    have a novel output. This is ``split_cluster_acc_v3`` of rKD's release.

    Args:
        joint_head: ``(N,)`` output ids in ``[0, K + M)``.
        truth: ``(N,)`` joint class ids, -1 if unknown.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        The groups "all", "known" and "novel".
    """

    def matched_clusters(outputs: Ids, true: Ids) -> Ids:
        found = outputs >= num_known
        cluster_map = fit_cluster_map(
            outputs[found] - num_known,
            true[found],
            num_known=num_known,
            num_novel=num_novel,
            num_classes=num_classes,
        )
        return apply_cluster_map(outputs, cluster_map, num_known=num_known)

    return _scored(matched_clusters, joint_head, truth, _Sizes(num_known, num_novel, num_classes))


def hungarian_outcomes(
    parts: Mapping[str, tuple[Ids, Ids]], *, num_known: int, num_novel: int, num_classes: int
) -> dict[str, dict[str, Outcome]]:
    """Score a joint head under the three protocols of this module.

    With one matching for all classes, the images of "train" are scored only if some of them are of
    known and some of novel classes, as in generalized category discovery. In novel class discovery
    all of them are novel, and this score would be mistaken for a score of all classes.

    Args:
        parts: "train" and "test" -> output ids and joint class ids of the images, ``(N,)`` each.
        num_known: K.
        num_novel: M.
        num_classes: K + the number of true novel classes.

    Returns:
        Protocol -> part -> outcome; without images, every score is None.
    """
    sizes = {"num_known": num_known, "num_novel": num_novel, "num_classes": num_classes}
    train, truth = parts["train"]
    known, novel = (truth >= 0) & (truth < num_known), truth >= num_known
    if not known.any() or not novel.any():
        train, truth = train[:0], truth[:0]
    one_matching = {**parts, "train": (train, truth)}
    rules = {
        "joint_hungarian": (joint_hungarian, one_matching),
        "separate_hungarian": (separate_hungarian, parts),
        "novel_hungarian": (novel_hungarian, one_matching),
    }
    return {
        protocol: {part: rule(outputs, true, **sizes) for part, (outputs, true) in scored.items()}
        for protocol, (rule, scored) in rules.items()
    }
