"""Class statistics and true classes that a finished run keeps for the next step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
from crkd.core.errors import InputError
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.report import cluster_map
from crkd.models.network import Network
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder
from crkd.stages.discover.feature_replay import save_replay
from crkd.stages.forward import Outputs
from crkd.stages.run_data import RunData

MATCHED = "matched.json"
"""The true class of every output, -1 for none. Only the evaluator of a later step reads this file;
nothing that trains does."""


@dataclass(frozen=True, eq=False)
class KnownStatistics:
    """Statistics of the known classes of an earlier run.

    Attributes:
        statistics: of all K classes; None where every class has training images.
        without_images: ids of the classes that have no training images.
    """

    statistics: ClassStatistics | None
    without_images: tuple[int, ...]


def remember_classes(
    run: RunFolder,
    network: Network,
    data: RunData,
    *,
    novel: Outputs | None,
    head: int | None,
    earlier: KnownStatistics,
) -> None:
    """Write the statistics of every class's features, from labels and from pseudo-labels.

    Args:
        run: the folder.
        network: of the run, frozen.
        data: its known training images are used where there are any.
        novel: outputs on the unlabeled training images; None before discovery.
        head: the novel head whose clusters are the novel classes; None before discovery.
        earlier: statistics of known classes without images.
    """
    rank = min(data.config.discover.replay.rank, network.backbone.num_features)
    known = earlier.statistics
    if len(data.subsets.known_train):
        outputs = data.outputs(network, data.subsets.known_train)
        labels = torch.from_numpy(data.subsets.known_train.labels.copy())
        known = class_statistics(
            torch.from_numpy(outputs.features), labels, outputs.known_logits.shape[1], rank=rank
        )
        if earlier.statistics is not None:
            known = known.with_rows(earlier.without_images, earlier.statistics)
    if known is None:
        return
    if novel is not None and head is not None:
        if data.config.mixed:
            found = novel.joint[head] >= novel.known_logits.shape[1]
            # Images that are predicted as a known class are examples of novel ones only if no
            # others are left.
            novel = novel.rows(found) if found.any() else novel
        clusters = torch.from_numpy(novel.novel[head])
        num_novel = novel.novel_logits.shape[-1]
        rows = torch.from_numpy(novel.features)
        known = known.followed_by(class_statistics(rows, clusters, num_novel, rank=rank))
    save_replay(run.path, known)


def true_classes(run: RunFolder, num_outputs: int) -> NDArray[np.int64]:
    """Return the true class of every output of an earlier run, ``(num_outputs,)``, -1 for none.

    Outputs of a run without discovered classes are true classes. So are those of a run whose images
    have no labels: nothing is known against them.
    """
    path = run.path / MATCHED
    stored = read_json(path) if path.is_file() else list(range(num_outputs))
    sound = isinstance(stored, list) and all(type(c) is int and c >= -1 for c in stored)
    if not sound or len(stored) != num_outputs:
        raise InputError(f"{path} does not fit the run's {num_outputs} classes; restore it")
    return np.array(stored, dtype=np.int64)


def as_outputs(labels: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return true classes as output ids of an earlier run.

    Args:
        labels: ``(N,)`` true joint ids, -1 where unknown.
        known: ``(K,)`` from :func:`true_classes`. Classes from K on are new and stay as they are.
            A run that found fewer classes than there are can have matched an id from K on; such an
            output has no class.

    Returns:
        ``(N,)``; a class without an output takes an output without a class, so that its images
        count as wrong, or -1 where no such output is left.
    """
    output_of = np.full(len(known), -1, dtype=np.int64)
    matched = (known >= 0) & (known < len(known))
    output_of[known[matched]] = np.flatnonzero(matched)
    orphans, idle = np.flatnonzero(output_of < 0), np.flatnonzero(~matched)
    count = min(len(orphans), len(idle))
    output_of[orphans[:count]] = idle[:count]
    old = (labels >= 0) & (labels < len(known))
    outputs = labels.copy()
    outputs[old] = output_of[labels[old]]
    return outputs


def write_true_classes(
    run: RunFolder, predictions: Predictions, known: NDArray[np.int64], chosen_head: int
) -> None:
    """Write the true class of every output, where the novel training images have labels."""
    found = cluster_map(predictions, chosen_head)
    if found is not None:
        # Ids from K on mean new classes of this run, not those that the earlier run had matched.
        kept = np.where(known < len(known), known, -1)
        write_json(run.path / MATCHED, [int(c) for c in (*kept, *found)])
