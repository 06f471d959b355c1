"""Predictions of a run on a batch of images, as table rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.paths import readable
from crkd.evaluation.calibration import probabilities
from crkd.evaluation.matching import contingency, match
from crkd.evaluation.predictions_file import load_predictions
from crkd.inference.outliers import outlier_test
from crkd.inference.table import COLUMNS, PredictedImage
from crkd.runs.calibration import read_calibration
from crkd.runs.class_info import ClassInfo
from crkd.runs.load import OpenedRun
from crkd.stages.forward import Outputs

TOP: Final = 5
NEAREST: Final = 3
UNSURE: Final = 0.5
"""Confidence below which an image is called unsure, unless the person says otherwise."""
DIGITS: Final = 6
"""Decimals of every probability: the same number in every format, and no more than float32 has."""


class RowMaker:
    """Turns the outputs of a run into table rows.

    Args:
        opened: the run.
        unsure: confidence below which an image is called unsure.

    Attributes:
        temperature: the run's fitted temperature, or None.
    """

    def __init__(self, opened: OpenedRun, unsure: float) -> None:
        self._classes = opened.info.classes
        self._names = class_labels(self._classes)
        self._head = opened.info.chosen_head
        self._unsure = unsure
        self._agreement = HeadAgreement.of(opened)
        self._fits_nowhere = outlier_test(opened)
        calibration = read_calibration(opened.run)
        self.temperature = None if calibration is None else calibration.temperature

    @property
    def columns(self) -> list[str]:
        """The columns of the table that the run can fill."""
        absent = {"head_agreement": self._agreement, "outlier": self._fits_nowhere}
        return [name for name in COLUMNS if name not in absent or absent[name] is not None]

    def rows(self, paths: Sequence[str | Path], outputs: Outputs) -> list[PredictedImage]:
        """Return one row for each of N images."""
        known = outputs.known_logits
        logits = known if self._head is None else outputs.joint_logits(self._head)
        temperature = self.temperature or 1.0
        shares = probabilities(logits, temperature).round(DIGITS)
        relation = probabilities(known, temperature).round(DIGITS)
        best = logits.argmax(axis=1)
        agreement = None if self._agreement is None else self._agreement.shares(outputs)
        strays = None if self._fits_nowhere is None else self._fits_nowhere(outputs)
        rows = []
        for n, path in enumerate(paths):
            entry = self._classes[best[n]]
            confidence = float(shares[n, best[n]])
            novel = entry.is_novel
            head_agreement = (
                None if agreement is None or not novel else round(float(agreement[n]), DIGITS)
            )
            rows.append(
                PredictedImage(
                    path=readable(path),
                    kind=entry.kind,
                    class_id=int(best[n]),
                    class_name=self._names[best[n]],
                    confidence=confidence,
                    calibrated=self.temperature is not None and not novel,
                    unsure=confidence < self._unsure,
                    head_agreement=head_agreement,
                    top=self._largest(logits[n], shares[n], TOP),
                    nearest_known=self._largest(known[n], relation[n], NEAREST),
                    outlier=None if strays is None else bool(strays[n]),
                )
            )
        return rows

    def _largest(
        self, logits: NDArray[np.float32], shares: NDArray[np.float64], count: int
    ) -> dict[str, float]:
        # Ordered by logits, because rounded shares have ties.
        order = np.argsort(-logits, kind="stable")[:count]
        return {self._names[i]: float(shares[i]) for i in order}


@dataclass(frozen=True)
class HeadAgreement:
    """The share of other novel heads that agree with the chosen head.

    Attributes:
        head: the chosen head.
        num_known: K.
        maps: ``(H, M)`` cluster of the chosen head for every cluster of every head.
    """

    head: int
    num_known: int
    maps: NDArray[np.int64]

    @classmethod
    def of(cls, opened: OpenedRun) -> HeadAgreement | None:
        """Match the heads on the run's unlabeled training images; None without several heads."""
        head, table = opened.info.chosen_head, opened.run.path / "predictions.parquet"
        if head is None or not table.is_file():
            return None
        predictions = load_predictions(table)
        clusters = predictions.novel_heads[:, predictions.of("train")]
        width = opened.architecture.num_novel
        if len(clusters) < 2 or clusters.shape[1] == 0 or predictions.num_novel != width:
            return None
        maps = [match(contingency(other, clusters[head], width, width)) for other in clusters]
        return cls(head, opened.architecture.num_known, np.stack(maps))

    def shares(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the share of the other heads that agree on each image, ``(N,)`` in [0, 1]."""
        joint = outputs.joint
        novel = np.maximum(joint - self.num_known, 0)
        matched = self.num_known + np.take_along_axis(self.maps, novel, axis=1)
        same = np.where(joint < self.num_known, joint, matched) == joint[self.head]
        shares: NDArray[np.float64] = (same.sum(axis=0) - 1) / (len(joint) - 1)
        return shares


def class_labels(classes: Sequence[ClassInfo]) -> list[str]:
    """Return the names of a run's classes; the id is added to a name that occurs twice.

    >>> class_labels([ClassInfo(0, "cat", "known"), ClassInfo(1, "cat", "novel")])
    ['cat', 'cat (1)']
    """
    labels: dict[str, None] = {}
    for entry in classes:
        label = entry.name
        while label in labels:
            label += f" ({entry.id})"
        labels[label] = None
    return list(labels)
