"""Metrics of a run, computed from its prediction table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.hungarian import hungarian_outcomes
from crkd.evaluation.matching import Ids
from crkd.evaluation.predictions import PARTS, Predictions
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.protocols import (
    Outcome,
    fit_cluster_map,
    supervised,
    task_agnostic,
    task_aware,
)
from crkd.evaluation.scores import MEASURES, Score

SCHEMA_VERSION = 1
Tree = dict[str, dict[str, dict[str, Score]]]
Outcomes = dict[str, dict[str, Outcome]]


def evaluate(predictions: Predictions) -> dict[str, Any]:
    """Compute the scores of every protocol, part and group.

    Args:
        predictions: the table of one run.

    Returns:
        A JSON-serializable tree without NaN; a value is None if no image has a label or the run
        has no such head.

        * ``[protocol][part][group][measure]``: mean over heads. The protocols are those of
          :mod:`crkd.evaluation.protocol_list`; the measures and their ranges are those of
          :func:`crkd.evaluation.scores.score`.
        * ``["spread_over_heads"][protocol]...``: population standard deviation over heads.
        * ``["chosen_head"][protocol]...``: of the head chosen without labels.
        * ``["oracle"]``: of the head chosen by hidden labels, with ``head`` and ``picked_by``;
          nothing else in the program uses it. None if there are no labels to choose by.
        * ``["per_class"][protocol][part][class name]``: accuracy of the chosen head.
        * ``["baselines"][name]["task_aware"][part]["novel"][measure]``.
        * ``["counts"]``: numbers of images, classes, heads, and clusters that the chosen head uses.
    """
    heads = [_outcomes(predictions, head) for head in range(predictions.num_heads)]
    if predictions.chosen_head is None:
        chosen = _outcomes(predictions, None)
        heads = [chosen]
    else:
        chosen = heads[predictions.chosen_head]
    trees = [_tree(outcomes) for outcomes in heads]
    return {
        "schema_version": SCHEMA_VERSION,
        **_combine(trees, _mean, keep_counts=True),
        "spread_over_heads": _combine(trees, _spread, keep_counts=False),
        "chosen_head": _tree(chosen),
        "oracle": _oracle(trees),
        "per_class": _per_class(chosen, predictions),
        "baselines": {
            name: {"task_aware": _task_aware(predictions, clusters)}
            for name, clusters in predictions.baselines.items()
        },
        "counts": _counts(predictions),
    }


def cluster_map(predictions: Predictions, head: int) -> NDArray[np.int64] | None:
    """Return the fixed cluster-to-class map of ``head``, fitted on the novel training images.

    Returns:
        ``(M,)`` joint class ids, -1 for none; None if no novel training image has a label.
    """
    train = predictions.of("train")
    return fit_cluster_map(
        predictions.novel_heads[head][train],
        predictions.label[train],
        num_known=predictions.num_known,
        num_novel=predictions.num_novel,
        num_classes=predictions.num_classes,
    )


def _outcomes(predictions: Predictions, head: int | None) -> Outcomes:
    test = predictions.of("test")
    truth = predictions.label[test]
    sizes = {"num_known": predictions.num_known, "num_classes": predictions.num_classes}
    if head is None:
        # Without heads, the discovery protocols get no image and therefore report None.
        novel = np.full(len(predictions.label), -1)
        joint = dict.fromkeys(PARTS, (truth[:0], truth[:0]))
        frozen = None
    else:
        novel = predictions.novel_heads[head]
        joint = {
            part: (predictions.joint_heads[head][rows], predictions.label[rows])
            for part in PARTS
            for rows in [predictions.of(part)]
        }
        frozen = cluster_map(predictions, head)
    outputs, outputs_truth = joint["test"]
    outcomes = {
        "task_aware": _task_aware_outcomes(predictions, novel),
        "task_agnostic": {"test": task_agnostic(outputs, outputs_truth, frozen, **sizes)},
        **hungarian_outcomes(joint, num_novel=predictions.num_novel, **sizes),
        "supervised": {"test": supervised(predictions.known_head[test], truth, **sizes)},
    }
    return {protocol: outcomes[protocol] for protocol in PROTOCOLS}


def _task_aware_outcomes(predictions: Predictions, clusters: Ids) -> dict[str, Outcome]:
    outcomes = {}
    for part in PARTS:
        rows = predictions.of(part) & (clusters >= 0)
        outcomes[part] = task_aware(
            clusters[rows],
            predictions.label[rows],
            num_known=predictions.num_known,
            num_novel=predictions.num_novel,
            num_classes=predictions.num_classes,
        )
    return outcomes


def _task_aware(predictions: Predictions, clusters: Ids) -> dict[str, dict[str, Score]]:
    outcomes = _task_aware_outcomes(predictions, clusters)
    return {part: outcome.groups for part, outcome in outcomes.items()}


def _tree(outcomes: Outcomes) -> Tree:
    return {
        protocol: {part: outcome.groups for part, outcome in parts.items()}
        for protocol, parts in outcomes.items()
    }


def _oracle(trees: list[Tree]) -> dict[str, Any]:
    """Return the scores of the best head by the labels of the novel training images."""
    scores = [tree["task_aware"]["train"]["novel"]["acc"] for tree in trees]
    known = [score for score in scores if score is not None]
    head = scores.index(max(known)) if known else None
    values = _combine(trees, _nothing, keep_counts=True) if head is None else trees[head]
    return {"head": head, "picked_by": "hidden labels of the novel training images", **values}


def _combine(
    trees: list[Tree], reduce: Callable[[list[float]], float | None], *, keep_counts: bool
) -> Tree:
    def leaf(protocol: str, part: str, group: str) -> Score:
        scores = [tree[protocol][part][group] for tree in trees]
        result: Score = {}
        for measure in MEASURES:
            values = [value for score in scores if (value := score[measure]) is not None]
            result[measure] = reduce(values) if values else None
        if keep_counts:
            result["num_images"] = scores[0]["num_images"]
        return result

    return {
        protocol: {
            part: {group: leaf(protocol, part, group) for group in groups}
            for part, groups in parts.items()
        }
        for protocol, parts in trees[0].items()
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _nothing(values: list[float]) -> None:
    return None


def _spread(values: list[float]) -> float:
    return float(np.std(values))


def _per_class(outcomes: Outcomes, predictions: Predictions) -> dict[str, Any]:
    known, total = predictions.num_known, predictions.num_classes
    scope = {"all": range(total), "known": range(known), "novel": range(known, total)}
    return {
        protocol: {
            part: {
                predictions.class_names[class_id]: (None if np.isnan(share) else float(share))
                for class_id in scope[PROTOCOLS[protocol].groups[0]]
                for share in [outcome.class_accuracy[class_id]]
            }
            for part, outcome in parts.items()
        }
        for protocol, parts in outcomes.items()
    }


def _counts(predictions: Predictions) -> dict[str, Any]:
    known = predictions.num_known
    counts: dict[str, Any] = {
        "known_classes": known,
        "novel_clusters": predictions.num_novel,
        "true_novel_classes": int(np.unique(predictions.label[predictions.label >= known]).size),
        "heads": predictions.num_heads,
        "chosen_head": predictions.chosen_head,
    }
    for part in PARTS:
        rows = predictions.of(part)
        label = predictions.label[rows]
        counts[part] = {
            "images": int(rows.sum()),
            "known": int(np.sum((label >= 0) & (label < known))),
            "novel": int(np.sum(label >= known)),
            "unlabeled": int(np.sum(label < 0)),
        }
    head = predictions.chosen_head
    counts["train"]["clusters_used"] = (
        None
        if head is None
        else int(np.unique(predictions.novel_heads[head][predictions.of("train")]).size)
    )
    return counts
