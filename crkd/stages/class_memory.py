"""What a finished run passes on to the next step, besides its model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.class_gaussians import ClassStatistics, class_statistics
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.report import cluster_map
from crkd.models.network import Network
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.folder import RunFolder
from crkd.stages.discover.feature_replay import save_replay
from crkd.stages.forward import Outputs, forward_subset
from crkd.stages.run_data import RunData

MATCHED = "matched.json"
"""The true class of every output, -1 for none. The evaluator of a later step reads this file of a
run, and nothing that trains does."""


def remember_classes(
    run: RunFolder,
    network: Network,
    data: RunData,
    config: Config,
    device: torch.device,
    *,
    novel: Outputs | None,
    chosen_head: int | None,
    inherited: ClassStatistics | None,
    gone: Sequence[int],
) -> None:
    """Write the statistics of every class's features, from labels and from pseudo-labels.

    Args:
        run: the folder.
        network: of the run.
        data: its known training images are used where there are any.
        config: the run's configuration.
        device: where the network computes.
        novel: the network's answers on the novel training images; None before discovery.
        chosen_head: the head whose clusters are the novel classes.
        inherited: statistics of the known classes, where images of some are gone.
        gone: ids of these classes.
    """
    rank = min(config.discover.replay.rank, network.backbone.num_features)
    known = inherited
    if len(data.subsets.known_train):
        answers = forward_subset(network, data.subsets.known_train, data, config, device)
        labels = torch.from_numpy(data.subsets.known_train.labels.copy())
        known = class_statistics(
            torch.from_numpy(answers.features), labels, answers.known_logits.shape[1], rank=rank
        )
        if inherited is not None:
            known = known.with_rows(gone, inherited)
    if known is None:
        return
    if novel is not None and chosen_head is not None:
        clusters = torch.from_numpy(novel.novel[chosen_head])
        num_novel = novel.novel_logits.shape[-1]
        rows = torch.from_numpy(novel.features)
        known = known.followed_by(class_statistics(rows, clusters, num_novel, rank=rank))
    save_replay(run.path, known)


def true_classes(run: RunFolder, num_outputs: int) -> NDArray[np.int64]:
    """Return the true class of every output of an earlier run, ``(num_outputs,)``, -1 for none.

    A run without found classes answers in true classes; one whose images have no labels is taken
    at its word.
    """
    path = run.path / MATCHED
    stored = read_json(path) if path.is_file() else list(range(num_outputs))
    sound = isinstance(stored, list) and all(type(c) is int and c >= -1 for c in stored)
    if not sound or len(stored) != num_outputs:
        raise InputError(f"{path} does not fit the run's {num_outputs} classes; restore it")
    return np.array(stored, dtype=np.int64)


def as_outputs(labels: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return true classes as the ids under which an earlier run answers them.

    Args:
        labels: ``(N,)`` true joint ids, -1 where unknown.
        known: ``(K,)`` from :func:`true_classes`. Classes from K on are new and stay as they are.

    Returns:
        ``(N,)``; a class that no output stands for takes an output that stands for none, so that
        its images count as wrong, or -1 where there is none left.
    """
    output_of = np.full(len(known), -1, dtype=np.int64)
    stands = known >= 0
    output_of[known[stands]] = np.flatnonzero(stands)
    orphans, idle = np.flatnonzero(output_of < 0), np.flatnonzero(~stands)
    count = min(len(orphans), len(idle))
    output_of[orphans[:count]] = idle[:count]
    old = (labels >= 0) & (labels < len(known))
    answered = labels.copy()
    answered[old] = output_of[labels[old]]
    return answered


def write_true_classes(
    run: RunFolder, predictions: Predictions, known: NDArray[np.int64], chosen_head: int
) -> None:
    """Write the true class of every output, where the novel training images have labels."""
    found = cluster_map(predictions, chosen_head)
    if found is not None:
        write_json(run.path / MATCHED, [int(c) for c in (*known, *found)])
