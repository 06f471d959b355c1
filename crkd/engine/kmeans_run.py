"""The k-means baseline as a run of its own: stage-1 features, no training."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.engine.finish import answer_parts, table, write_results
from crkd.engine.inference import Answers, answer_part
from crkd.engine.lifecycle import begin_run, running
from crkd.engine.provenance import pick_device
from crkd.engine.run import RunFolder, RunInfo, utc_now
from crkd.engine.setup import num_novel_classes, prepare, split_entry
from crkd.engine.starting_point import stage1_of
from crkd.features.clusters import kmeans

NOTE = "baseline: k-means on stage-1 features, joint answers by the nearest class mean"


def kmeans_on_features(
    config: Config, out: str | Path, parent: str | Path, *, resume: bool = False
) -> RunFolder:
    """Cluster the novel training images by k-means on stage-1 features.

    Joint answers come from the nearest of all centres: the means of the known classes' training
    features and the clusters' centroids, all features at unit length. ``resume`` starts anew in a
    folder where that was interrupted.
    """
    device = pick_device(config.device)
    data = prepare(config, device)
    num_novel, origin = num_novel_classes(config, data)
    opened = stage1_of(RunFolder.open(parent), config, data, device)
    stage1 = opened.network
    info = RunInfo(
        kind="baseline",
        status="running",
        dataset=config.dataset,
        split=split_entry(data.split),
        classes=data.class_entries(num_novel),
        preprocessing=data.preprocessing(),
        architecture=None,
        chosen_head=0,
        seed=config.seed,
        provenance={},
        parent={"path": str(parent), "model_sha256": opened.info.model_sha256 or ""},
        notes=[*data.notes, origin, NOTE],
    )
    run = begin_run(out, info, config, device, resume=resume)
    with running(run):
        began = time.monotonic()
        known = unit(answer_part(stage1, data.parts.known_train, data, config, device).features)
        labels = data.parts.known_train.labels
        means = unit(np.stack([known[labels == k].mean(axis=0) for k in range(data.num_known)]))
        answers = answer_parts(stage1, data, config, device)
        clusters = kmeans(
            unit(answers["train"].features),
            num_novel,
            seed=config.seed,
            num_restarts=config.evaluation.kmeans_restarts,
        )
        scored = {n: _scored(a, means, clusters.centroids) for n, a in answers.items()}
        write_results(run, table(scored, data, num_novel, 0, {}))
        info.seconds = round(time.monotonic() - began, 1)
        info.finished, info.status = utc_now(), "complete"
        run.write_info(info)
    return run


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows at unit length; a zero row stays zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _scored(
    answers: Answers, means: NDArray[np.float32], centroids: NDArray[np.float32]
) -> Answers:
    """Return negative squared distances to every centre in the place of logits."""
    rows = unit(answers.features)

    def closeness(centres: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = 2 * rows @ centres.T - (centres**2).sum(axis=1)
        return logits

    return Answers(answers.features, closeness(means), closeness(centroids)[None])
