"""The k-means baselines as runs of their own: stage-1 features, no training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, assign, kmeans, unit_rows
from crkd.clustering.semi_kmeans import semi_kmeans
from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.evaluation.matching import contingency, match
from crkd.models.network import freeze
from crkd.runs.folder import RunFolder
from crkd.runs.provenance import parent_entry, seed_note
from crkd.stages.baselines.run_entry import baseline_entry, run_baseline
from crkd.stages.discover.parent import stage1_of
from crkd.stages.forward import Outputs
from crkd.stages.run_data import prepare

Labels = NDArray[np.int64]


def kmeans_on_features(
    config: Config,
    out: str | Path,
    parent: str | Path,
    *,
    method: str = "kmeans",
    resume: bool = False,
    download: bool = False,
) -> RunFolder:
    """Cluster the unlabeled training images by k-means on stage-1 features.

    Joint predictions are the nearest of all centers, of known classes and of clusters, with all
    features at unit length. In the mixed setting, k-means has K + M clusters, and K of them are
    matched to the known classes.

    Args:
        config: the configuration of the run.
        out: the run folder to write.
        parent: the stage-1 run.
        method: ``kmeans`` clusters the unlabeled images alone; ``semi-kmeans`` clusters all
            images, and labeled ones stay in the cluster of their class.
        resume: start again in the folder of an interrupted run.
        download: fetch the data set if it is missing and can be fetched.
    """
    note, centers_of = METHODS[method]
    if config.mixed and method == "kmeans":
        note, centers_of = MIXED
    device = pick_device(config.device)
    data = prepare(config, device, download=download)
    opened = stage1_of(RunFolder.open(parent), config, data, device)
    stage1 = freeze(opened.network)
    notes = [*seed_note(opened.info, config.seed), note]
    origin = parent_entry(Path(parent), opened.info)
    info = baseline_entry(config, data, method, notes, parent=origin)

    def compute(_: RunFolder) -> dict[str, Outputs]:
        known = unit_rows(data.outputs(stage1, data.subsets.known_train).features)
        labels = data.subsets.known_train.labels
        outputs = data.evaluated_outputs(stage1)
        rows = unit_rows(outputs["train"].features)
        centers = centers_of(known, labels, rows, info.num_novel, config)
        return {n: _scored(a, *np.split(centers, [data.num_known])) for n, a in outputs.items()}

    return run_baseline(config, out, data, info, compute, device=device, resume=resume)


def _free_centers(
    known: Floats, labels: Labels, rows: Floats, num_novel: int, config: Config
) -> Floats:
    """Return the means of the known classes and the centroids of the other rows' clusters."""
    means = np.stack([known[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    clusters = kmeans(
        rows, num_novel, seed=config.seed, num_restarts=config.evaluation.kmeans_restarts
    )
    return np.concatenate([unit_rows(means), clusters.centroids])


def _matched_centers(
    known: Floats, labels: Labels, rows: Floats, num_novel: int, config: Config
) -> Floats:
    """Return the centroids of K + M clusters of unlabeled rows, those of known classes first.

    One Hungarian matching gives every known class the cluster whose centroid is the nearest of its
    labeled rows, as often as possible.
    """
    num_known = int(labels.max()) + 1
    centroids = kmeans(
        rows,
        num_known + num_novel,
        seed=config.seed,
        num_restarts=config.evaluation.kmeans_restarts,
    ).centroids
    cluster_of = match(contingency(labels, assign(known, centroids), num_known, len(centroids)))
    others = np.setdiff1d(np.arange(len(centroids)), cluster_of)
    ordered: Floats = centroids[np.concatenate([cluster_of, others])]
    return ordered


def _tied_centers(
    known: Floats, labels: Labels, rows: Floats, num_novel: int, config: Config
) -> Floats:
    """Return the centroids of all rows' clusters; known classes, to which rows are tied, first."""
    return semi_kmeans(
        np.concatenate([known, rows]),
        np.concatenate([labels, np.full(len(rows), -1)]),
        int(labels.max()) + 1 + num_novel,
        seed=config.seed,
        num_restarts=config.evaluation.kmeans_restarts,
        spherical=True,
    ).centroids


METHODS: Final[dict[str, tuple[str, Callable[[Floats, Labels, Floats, int, Config], Floats]]]] = {
    "kmeans": (
        "baseline: k-means on stage-1 features, joint predictions by the nearest class mean",
        _free_centers,
    ),
    "semi-kmeans": (
        "baseline: semi-supervised k-means on stage-1 features, labeled ones tied to their class",
        _tied_centers,
    ),
}
"""Note of the run, and the function of the centers ``(K + M, D)``, known classes first."""

MIXED: Final = (
    "baseline: k-means on stage-1 features over all classes, clusters matched to known classes by "
    "the labeled images",
    _matched_centers,
)
"""The same of ``kmeans`` in the mixed setting."""


def closeness(rows: Floats, centers: Floats) -> Floats:
    """Return the negative squared distances, less what all centers of a row share.

    Args:
        rows: ``(N, D)``.
        centers: ``(C, D)``.

    Returns:
        ``(N, C)``; the nearest center of a row has the largest value.
    """
    found: Floats = 2 * rows @ centers.T - np.square(centers).sum(axis=1)
    return found


def _scored(outputs: Outputs, means: Floats, centroids: Floats) -> Outputs:
    """Return the outputs with the closeness of every center as logits."""
    rows = unit_rows(outputs.features)
    return Outputs(outputs.features, closeness(rows, means), closeness(rows, centroids)[None])
