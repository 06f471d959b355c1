"""Results of a finished run: model, predictions, metrics, class statistics, confusion matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crkd.evaluation.calibration import calibrate
from crkd.evaluation.confusion import confusion, draw_confusion
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import save_predictions
from crkd.evaluation.report import evaluate
from crkd.models.network import Network
from crkd.runs.calibration import write_calibration
from crkd.runs.class_info import plain_classes
from crkd.runs.disputed import FILE, write_disputed
from crkd.runs.folder import RunFolder, utc_now
from crkd.stages.class_memory import (
    KnownStatistics,
    as_outputs,
    remember_classes,
    write_true_classes,
)
from crkd.stages.discover.cluster_report import report_clusters, sentences
from crkd.stages.forward import Outputs
from crkd.stages.kmeans_columns import Column, kmeans_columns
from crkd.stages.run_data import RunData
from crkd.training.distributed import barrier, is_rank_zero

NO_STATISTICS = KnownStatistics(None, ())


class Results:
    """Writes the files of a finished run, one method for each kind.

    Hidden labels are read here alone, after training, for the evaluator.

    Args:
        run: the folder.
        data: images and hidden labels.
        outputs: of the trained network on the evaluated subsets, by name.
        chosen_head: the novel head picked without labels; None without novel heads.
        true_known: ``(K,)`` true class of every known output, where earlier steps discovered some
            of them; None where outputs are true classes.
        columns: other clusterings of the same samples, name to subset to cluster ids.
    """

    def __init__(
        self,
        run: RunFolder,
        data: RunData,
        outputs: dict[str, Outputs],
        *,
        chosen_head: int | None,
        true_known: NDArray[np.int64] | None = None,
        columns: Mapping[str, Column] = MappingProxyType({}),
    ) -> None:
        self.run, self.data, self.outputs = run, data, outputs
        self.info = run.read_info()
        self.chosen_head, self.true_known = chosen_head, true_known
        self.metrics: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._predictions = self._table(columns) if outputs else None

    def write_model(self, tensors: dict[str, Tensor]) -> None:
        """Write the model file, usually the network's weights."""
        metadata = {
            "architecture": self.info.architecture,
            "classes": plain_classes(self.info.classes),
        }
        self.info.model_sha256 = self.run.write_model(tensors, metadata)

    def write_predictions(self) -> None:
        """Write predictions, metrics, confusion matrix and disputed images, if any is evaluated."""
        table = self._predictions
        if table is None:
            return
        save_predictions(table, self.run.path / "predictions.parquet")
        self.metrics = evaluate(table)
        self.run.write_metrics(self.metrics | self._validation)
        labeled = [p for p in ("test", "train") if (table.of(p) & (table.label >= 0)).any()]
        if labeled:
            draw_confusion(confusion(table, labeled[0]), self.run.path / "confusion.png")
        if self.true_known is not None and self.chosen_head is not None:
            write_true_classes(self.run, table, self.true_known, self.chosen_head)
        self._write_disputed()

    def _write_disputed(self) -> None:
        """Write which unlabeled images the joint prediction calls known, where all are new."""
        if self.chosen_head is None or "train" not in self.outputs:
            return
        if self.data.config.mixed:
            return
        logits = self.outputs["train"].joint_logits(self.chosen_head)
        names = [entry.name for entry in self.info.classes]
        ids = self.data.subsets.unlabeled.ids
        count = write_disputed(self.run, ids, logits, names, self.info.num_known)
        if count:
            self.info.add_own_notes(
                [
                    f"{count:,} of {len(ids):,} unlabeled images look like known classes, see "
                    f"{FILE}; they keep their novel class; if unlabeled images may be of known "
                    "classes, add --mixed"
                ]
            )

    def add_columns(self, columns: Mapping[str, Column]) -> None:
        """Score other clusterings in the same table and write it again."""
        table = self._predictions
        if table is None or not columns:
            return
        joined = {name: self._joined(column) for name, column in columns.items()}
        baselines = {**table.baselines, **joined}
        self._predictions = table = dataclasses.replace(table, baselines=baselines)
        save_predictions(table, self.run.path / "predictions.parquet")
        self.metrics = evaluate(table)
        self.run.write_metrics(self.metrics | self._validation)

    def report_clusters(self) -> None:
        """Write which novel classes are unused or may be one; the notes of the run mention them."""
        if self.chosen_head is None or "train" not in self.outputs:
            return
        outputs, head = self.outputs["train"], self.chosen_head
        found = report_clusters(
            self.run,
            outputs,
            self.data.subsets.unlabeled.ids,
            self.info.classes,
            head,
            novel=outputs.joint[head] >= self.info.num_known if self.data.config.mixed else None,
            frozen=self.info.on_vectors,
        )
        self.info.add_own_notes(sentences(found))

    def validate(self, outputs: Outputs) -> None:
        """Fit the temperature of known classes on outputs of the held-out known images."""
        labels, head = self.data.subsets.known_val.labels, self.chosen_head
        logits = outputs.known_logits if head is None else outputs.joint_logits(head)
        metrics: dict[str, Any] = {
            "acc": float((outputs.known == labels).mean()),
            "num_images": len(labels),
        }
        found = calibrate(logits, labels)
        if found is not None:
            write_calibration(self.run, found)
            metrics["ece"] = {"before": found.ece_before, "after": found.ece_after}
        self._validation = {"validation": {"known": metrics}}
        self.run.write_metrics(self.metrics | self._validation)

    def complete(self, seconds: float) -> None:
        """Mark the run as complete; nothing is written after this.

        Args:
            seconds: wall time of the training.
        """
        self.info.chosen_head = self.chosen_head
        self.info.seconds = round(seconds, 1)
        self.info.finished, self.info.status = utc_now(), "complete"
        self.run.write_info(self.info)

    def _table(self, columns: Mapping[str, Column]) -> Predictions:
        """Return outputs, hidden labels and baselines as one prediction table."""
        data, subsets = self.data, self.data.subsets
        hidden = {"train": subsets.hidden.unlabeled(), "test": subsets.hidden.test()}
        if len(subsets.test) == 0:
            hidden["test"] = subsets.known_val.labels
        elif self.true_known is not None:
            hidden["test"] = as_outputs(hidden["test"], self.true_known)
        if self.true_known is not None:
            hidden["train"] = as_outputs(hidden["train"], self.true_known)
        ids = {name: subset.ids for name, subset in data.evaluated().items()}
        of = self.outputs
        return Predictions(
            id=np.array([i for name in of for i in ids[name]], dtype=object),
            part=np.array([name for name in of for _ in ids[name]], dtype=object),
            label=self._joined(hidden),
            known_head=self._joined({name: out.known for name, out in of.items()}),
            novel_heads=self._joined({name: out.novel for name, out in of.items()}),
            joint_heads=self._joined({name: out.joint for name, out in of.items()}),
            confidence=self._joined(
                {name: out.confidence(self.chosen_head) for name, out in of.items()}
            ),
            class_names=data.split.joint_names,
            num_known=data.num_known,
            num_novel=self.info.num_novel,
            chosen_head=self.chosen_head,
            baselines={name: self._joined(column) for name, column in columns.items()},
        )

    def _joined(self, column: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the rows of all subsets, one subset after the other."""
        return np.concatenate([column[name] for name in self.outputs], axis=-1)


def finish_run(
    run: RunFolder,
    network: Network,
    data: RunData,
    *,
    seconds: float,
    chosen_head: int | None,
    stage1: Network | None = None,
    true_known: NDArray[np.int64] | None = None,
    columns: Mapping[str, Column] = MappingProxyType({}),
    earlier: KnownStatistics | None = NO_STATISTICS,
    tensors: dict[str, Tensor] | None = None,
) -> None:
    """Evaluate a trained network and write everything that a finished run holds.

    Rank zero does this, the other processes wait.

    Args:
        run: the folder.
        network: the trained network; it is frozen here.
        data: images, and the hidden labels for the evaluator.
        seconds: wall time of the training.
        chosen_head: see :class:`Results`.
        stage1: frozen network whose features the k-means baseline clusters; None skips baselines.
        true_known: see :class:`Results`.
        columns: see :class:`Results`.
        earlier: statistics of known classes without images; None writes no class statistics.
        tensors: content of the model file; None writes the network's weights.
    """
    if is_rank_zero():
        network.requires_grad_(False)
        outputs = data.evaluated_outputs(network)
        results = Results(
            run, data, outputs, chosen_head=chosen_head, true_known=true_known, columns=columns
        )
        results.write_model(tensors or network.state_dict())
        results.write_predictions()
        results.report_clusters()
        if earlier is not None:
            remember_classes(
                run, network, data, novel=outputs.get("train"), head=chosen_head, earlier=earlier
            )
        if len(data.subsets.known_val):
            results.validate(data.outputs(network, data.subsets.known_val))
        # Clustering may take longer than the evaluation; the files above are complete without it.
        # They cluster novel images alone, which are not known in the mixed setting.
        if stage1 is not None and outputs and not data.config.mixed:
            results.add_columns(kmeans_columns(stage1, data, results.info.num_novel))
        results.complete(seconds)
    barrier()
