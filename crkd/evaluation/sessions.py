"""Scores of the sessions of a plan, and what the plan forgets and discovers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.hungarian import joint_hungarian
from crkd.evaluation.steps import forgetting, step_entry

Labels = NDArray[np.int64]


def session_entry(
    outputs: Labels, class_of: Labels, truth: Labels, sizes: Sequence[int]
) -> dict[str, Any]:
    """Return the accuracies after a session on test samples of all classes so far.

    Args:
        outputs: ``(N,)`` predictions in ``[0, C)``.
        class_of: ``(C,)`` class of each output; clusters were matched to classes on the vectors
            of the session that found them (the rule of FRoST).
        truth: ``(N,)`` classes in ``[0, C)``.
        sizes: number of classes of each session so far.

    Returns:
        The entry of :func:`~crkd.evaluation.steps.step_entry` for this rule, and ``hungarian``:
        ``all``; ``old`` and ``new``, where base classes are old ("hard" in the release of Ma et
        al., "Happy", NeurIPS 2024); ``seen`` and ``unseen``, where all classes of earlier sessions
        are old ("soft", the groups of the tables of the paper). One matching of all outputs to all
        classes gives these five.
    """
    entry = step_entry(class_of[outputs], truth, sizes)
    count = sum(sizes)
    groups = [
        joint_hungarian(
            outputs, truth, num_known=known, num_novel=count - known, num_classes=count
        ).groups
        for known in (sizes[0], sum(sizes[:-1]) or count)
    ]
    first = len(sizes) == 1
    entry["hungarian"] = {
        "all": groups[0]["known" if first else "all"]["acc"],
        "old": groups[0]["known"]["acc"],
        "new": None if first else groups[0]["novel"]["acc"],
        "seen": groups[1]["known"]["acc"],
        "unseen": None if first else groups[1]["novel"]["acc"],
    }
    return entry


def plan_metrics(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a plan forgets and discovers.

    Returns:
        ``forgetting`` of each session by the fixed map; of the Hungarian results ``max_forgetting``
        (M_f), the largest drop of the base classes, and ``mean_discovery`` (M_d), the mean over
        the sessions of the accuracy on their new classes.
    """
    base = [step["hungarian"]["old"] for step in steps]
    new = [step["hungarian"]["unseen"] for step in steps[1:]]
    return {
        "forgetting": forgetting([step["groups"] for step in steps]),
        "max_forgetting": max((base[0] - value for value in base[1:]), default=None),
        "mean_discovery": float(np.mean(new)) if new else None,
    }
