"""Report on novel clusters: unused ones, pairs that may be one class, rejected images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.cluster_usage import merge_suggestions, unused_clusters
from crkd.clustering.novelty.outliers import reject_bucket
from crkd.clustering.separation import close_pairs
from crkd.core.atomic_write import write_bytes
from crkd.core.counted import counted
from crkd.core.errors import listed
from crkd.runs.atomic_files import write_json
from crkd.runs.class_info import ClassInfo
from crkd.runs.csv_cells import escape_formula
from crkd.runs.folder import RunFolder
from crkd.stages.forward import Outputs

FOUND = "clusters.json"
REJECTED = "rejected.csv"
MOST_PAIRS = 20
"""Largest number of pairs in the report, the most similar first."""


def report_clusters(
    run: RunFolder,
    outputs: Outputs,
    ids: Sequence[str],
    classes: Sequence[ClassInfo],
    head: int,
    *,
    novel: NDArray[np.bool_] | None = None,
    frozen: bool = False,
) -> dict[str, Any]:
    """Return which novel clusters are unused or may be one class; also written to the run.

    Clusters of frozen features may be one class if they are close
    (:func:`~crkd.clustering.separation.close_pairs`). Features that were trained with the clusters
    separate them, so there the logits decide
    (:func:`~crkd.clustering.cluster_usage.merge_suggestions`).

    No label is used. ``clusters.json`` holds the returned report; ``rejected.csv`` lists the
    unlabeled images that are far from all others, the farthest first.

    Args:
        run: the folder.
        outputs: of the network on the N unlabeled training images.
        ids: N names of these images.
        classes: the run's label space, novel classes last.
        head: the chosen novel head.
        novel: ``(N,)`` images that are predicted as a novel class; None: all images are of novel
            classes.
        frozen: whether the features were not trained on these images.
    """
    num_novel = outputs.novel_logits.shape[-1]
    names = [entry.name for entry in classes[-num_novel:]]
    apart = reject_bucket(outputs.features)
    _write_rejected(run, ids, apart.scores, apart.rejected)
    clustered = outputs if novel is None else outputs.rows(novel)
    pairs = _pairs(clustered, head, frozen=frozen)[:MOST_PAIRS]
    found = {
        "unused": [names[m] for m in unused_clusters(clustered.novel[head], num_novel)],
        "merge": [
            {"classes": [names[first], names[second]], **evidence}
            for first, second, evidence in pairs
        ],
        "rejected": int(apart.rejected.sum()),
    }
    write_json(run.path / FOUND, found)
    return found


def _pairs(
    outputs: Outputs, head: int, *, frozen: bool
) -> list[tuple[int, int, dict[str, float | None]]]:
    """Return the pairs of clusters that may be one class, and the evidence for each."""
    if frozen:
        clusters, num_novel = outputs.novel[head], outputs.novel_logits.shape[-1]
        return [
            (pair.first, pair.second, {"separation": round(pair.separation, 4)})
            for pair in close_pairs(outputs.features, clusters, num_novel)
        ]
    return [
        (
            pair.first,
            pair.second,
            {
                "overlap": round(pair.overlap, 4),
                "agreement": None if np.isnan(pair.agreement) else round(pair.agreement, 4),
            },
        )
        for pair in merge_suggestions(outputs.novel_logits, head)
    ]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return the report of :func:`report_clusters` as sentences.

    >>> sentences({"unused": ["novel-3"], "merge": [], "rejected": 0})
    ['1 novel class has next to no image (novel-3): fewer may be enough']
    """
    report = []
    if unused := found["unused"]:
        classes = counted(len(unused), "novel class has", "novel classes have")
        named = listed(unused, limit=5)
        report.append(f"{classes} next to no image ({named}): fewer may be enough")
    if pairs := found["merge"]:
        named = listed((" and ".join(pair["classes"]) for pair in pairs), limit=5)
        report.append(f"may be one class: {named}; review shows them, and merges them")
    if rejected := found["rejected"]:
        images = counted(rejected, "unlabeled image is", "unlabeled images are")
        report.append(f"{images} far from all others, see {REJECTED}")
    return report


def _write_rejected(
    run: RunFolder,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    rejected: NDArray[np.bool_],
) -> None:
    order = np.argsort(-scores, kind="stable")
    rows = [(escape_formula(ids[n]), f"{scores[n]:.4f}") for n in order if rejected[n]]
    text = io.StringIO()
    csv.writer(text).writerows([("image", "distance"), *rows])
    write_bytes(run.path / REJECTED, text.getvalue().encode())
