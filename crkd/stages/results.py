"""The end of every run: model, predictions, figures, picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.evaluation.calibration import calibrate
from crkd.evaluation.confusion import confusion, draw_confusion
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import save_predictions
from crkd.evaluation.report import evaluate
from crkd.models.network import Network
from crkd.runs.calibration import write_calibration
from crkd.runs.folder import RunFolder, utc_now
from crkd.stages.class_memory import as_outputs, remember_classes, write_true_classes
from crkd.stages.discover.cluster_report import clusters_found, sentences
from crkd.stages.discover.parent import ParentRun
from crkd.stages.forward import Outputs, forward_subset
from crkd.stages.kmeans_columns import Column, kmeans_columns
from crkd.stages.run_data import RunData
from crkd.training.distributed import broadcast_from_rank_zero


@broadcast_from_rank_zero
def finish_run(
    run: RunFolder,
    network: Network,
    data: RunData,
    config: Config,
    device: torch.device,
    *,
    seconds: float,
    chosen_head: int | None,
    stage1: Network | None = None,
    beside: Mapping[str, Column] = MappingProxyType({}),
    start: ParentRun | None = None,
    known: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Write everything that a finished run holds and return its metrics.

    Of several processes the first one does; the others wait and get no metrics.

    Args:
        run: the folder.
        network: the trained network.
        data: images, and the hidden labels for the evaluator.
        config: the run's configuration.
        device: where the network computes.
        seconds: wall time of the training.
        chosen_head: the novel head picked without labels; None without novel heads.
        stage1: network whose features the k-means baseline clusters; None skips baselines.
        beside: other clusterings to score beside the result, name to part to cluster ids.
        start: what a discovery went on from.
        known: ``(K,)`` true class of every known output, where earlier steps found some of them;
            a start knows it by itself.
    """
    answers = forward_subsets(network, data, config, device)
    info = run.read_info()
    metadata = {"architecture": info.architecture, "classes": info.classes}
    info.model_sha256 = run.write_model(network.state_dict(), metadata)
    metrics: dict[str, Any] = {}
    if answers:
        # A class that an earlier step found is answered by the id it was given there.
        known = known if start is None else start.true_classes()
        predictions = table(answers, data, info.num_novel, chosen_head, beside, known=known)
        metrics = write_results(run, predictions)
        if known is not None and chosen_head is not None:
            write_true_classes(run, predictions, known, chosen_head)
    if chosen_head is not None and "train" in answers:
        found = clusters_found(
            run, answers["train"], data.subsets.novel_train.ids, info.classes, chosen_head
        )
        info.notes = [*info.notes, *sentences(found)]
    remember_classes(
        run,
        network,
        data,
        config,
        device,
        novel=answers.get("train"),
        chosen_head=chosen_head,
        inherited=None if start is None else start.statistics,
        gone=() if start is None else start.gone,
    )
    validation: dict[str, Any] = {}
    if len(data.subsets.known_val):
        answered = forward_subset(network, data.subsets.known_val, data, config, device)
        labels = data.subsets.known_val.labels
        validation = {"validation": _validate(run, answered, labels, chosen_head)}
        run.write_metrics(metrics | validation)
    # Clustering may take longer than the evaluation; the results above are complete without it.
    if answers and stage1 is not None and config.evaluation.baselines:
        columns = kmeans_columns(stage1, data, config, device, info.num_novel)
        clusters = {name: _joined(column) for name, column in columns.items()}
        predictions = dataclasses.replace(
            predictions, baselines={**predictions.baselines, **clusters}
        )
        metrics = _write_predictions(run, predictions)
        run.write_metrics(metrics | validation)
    metrics |= validation
    info.chosen_head = chosen_head
    info.seconds = round(seconds, 1)
    info.finished = utc_now()
    info.status = "complete"
    run.write_info(info)
    return metrics


def write_results(run: RunFolder, predictions: Predictions) -> dict[str, Any]:
    """Write predictions, metrics and the confusion picture; return the metrics."""
    metrics = _write_predictions(run, predictions)
    run.write_metrics(metrics)
    labeled = [p for p in ("test", "train") if (predictions.of(p) & (predictions.label >= 0)).any()]
    if labeled:
        draw_confusion(confusion(predictions, labeled[0]), run.path / "confusion.png")
    return metrics


def _write_predictions(run: RunFolder, predictions: Predictions) -> dict[str, Any]:
    save_predictions(predictions, run.path / "predictions.parquet")
    return evaluate(predictions)


def forward_subsets(
    network: Network, data: RunData, config: Config, device: torch.device
) -> dict[str, Outputs]:
    """Return the network's answers on the parts that are evaluated, by part."""
    return {
        name: forward_subset(network, part, data, config, device)
        for name, part in data.evaluated().items()
    }


def _validate(
    run: RunFolder, answers: Outputs, labels: NDArray[np.int64], chosen_head: int | None
) -> dict[str, Any]:
    """Fit the temperature of the answering classifier and return the figures of validation."""
    logits = answers.known_logits if chosen_head is None else answers.joint_logits(chosen_head)
    found = calibrate(logits, labels)
    figures: dict[str, Any] = {"acc": float((answers.known == labels).mean())}
    if found is not None:
        write_calibration(run, found)
        figures["ece"] = {"before": found.ece_before, "after": found.ece_after}
    return {"known": figures}


def table(
    answers: dict[str, Outputs],
    data: RunData,
    num_novel: int,
    chosen_head: int | None,
    baselines: Mapping[str, Column],
    known: NDArray[np.int64] | None = None,
) -> Predictions:
    """Put answers, hidden labels and baselines into one prediction table.

    ``known`` holds the true class of every known output where earlier steps found some of them.

    This is where the hidden labels come out: after training, for the evaluator.
    """
    hidden = {"train": data.subsets.hidden.novel_train(), "test": data.subsets.hidden.test()}
    if len(data.subsets.test) == 0:
        hidden["test"] = data.subsets.known_val.labels
    elif known is not None:
        hidden["test"] = as_outputs(hidden["test"], known)
    ids = {name: part.ids for name, part in data.evaluated().items()}
    names = list(answers)

    return Predictions(
        id=np.array([i for name in names for i in ids[name]], dtype=object),
        part=np.array([name for name in names for _ in ids[name]], dtype=object),
        label=_joined({name: hidden[name] for name in names}),
        known_head=_joined({n: a.known for n, a in answers.items()}),
        novel_heads=_joined({n: a.novel for n, a in answers.items()}),
        joint_heads=_joined({n: a.joint for n, a in answers.items()}),
        confidence=_joined({n: a.confidence(chosen_head) for n, a in answers.items()}),
        class_names=data.split.joint_names,
        num_known=data.num_known,
        num_novel=num_novel,
        chosen_head=chosen_head,
        baselines={
            name: _joined({part: column[part] for part in names})
            for name, column in baselines.items()
        },
    )


def _joined(column: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the rows of all parts, one part after the other."""
    return np.concatenate(list(column.values()), axis=-1)
