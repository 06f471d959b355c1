"""The samples that an estimator learned from: classes, outliers, logits and embedding."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from crkd.clustering.kmeans import Floats
from crkd.estimator.class_space import ClassSpace
from crkd.estimator.labels import UNLABELED

OUTLIER: Final = UNLABELED
"""Label of a sample without a class."""


@dataclass(frozen=True, eq=False)
class LearnedSamples:
    """N samples of one or several calls, in the order of the calls.

    Attributes:
        outputs: ``(N,)`` int64 output of the model for the class of each sample.
        settled: ``(N,)`` bool; labeled samples, and outliers that were assigned to their class.
        logits: ``(N, O)`` float32 joint logits by the model that learned the sample; -inf for
            outputs that were learned later.
        embedding: ``(N, P)`` float32 of unit length.
    """

    outputs: NDArray[np.int64]
    settled: NDArray[np.bool_]
    logits: Floats
    embedding: Floats

    @classmethod
    def of(
        cls, labels: NDArray[np.int64], joint: NDArray[Any], embedding: Floats, num_novel: int
    ) -> LearnedSamples:
        """Return the samples of one call.

        A labeled sample has the class of its label. All unlabeled samples belong to novel classes,
        so each has the novel class with the largest logit.

        Args:
            labels: ``(N,)`` int64 outputs of the labeled samples, -1 for the others.
            joint: ``(N, O)`` joint logits.
            embedding: ``(N, P)`` float32 of unit length.
            num_novel: M; the last M outputs are those of the unlabeled samples.
        """
        settled, outputs = labels >= 0, labels.copy()
        if not settled.all():
            first = joint.shape[1] - num_novel
            outputs[~settled] = first + joint[~settled, first:].argmax(axis=1)
        return cls(outputs, settled, joint.astype(np.float32), embedding)

    def followed_by(self, later: LearnedSamples) -> LearnedSamples:
        """Return these samples and those of a later call, whose model has more outputs."""
        missing = later.logits.shape[1] - self.logits.shape[1]
        logits = np.pad(self.logits, ((0, 0), (0, missing)), constant_values=-np.inf)
        return LearnedSamples(
            np.concatenate([self.outputs, later.outputs]),
            np.concatenate([self.settled, later.settled]),
            np.concatenate([logits, later.logits]),
            np.concatenate([self.embedding, later.embedding]),
        )

    def classes(self, space: ClassSpace) -> NDArray[np.int64]:
        """Return the position of the class of each sample, ``(N,)``.

        For an outlier it is the novel class that fits best.
        """
        found: NDArray[np.int64] = space.class_of_output[self.outputs]
        return found

    def outliers(self, space: ClassSpace) -> NDArray[np.bool_]:
        """Return the samples that an earlier class fits better than their own, ``(N,)`` bool."""
        best = space.logits(self.logits).argmax(axis=1)
        apart: NDArray[np.bool_] = ~self.settled & (best != self.classes(space))
        return apart

    def labels(self, space: ClassSpace) -> NDArray[Any]:
        """Return the label of each sample, ``(N,)``; -1 for outliers.

        Text labels have the dtype object, because -1 is a number.
        """
        found = space.labels[self.classes(space)]
        if found.dtype.kind == "U":
            found = found.astype(object)
        found[self.outliers(space)] = OUTLIER
        return found

    def confidence(self, space: ClassSpace) -> NDArray[np.float64]:
        """Return the probability of the class of each sample, ``(N,)`` in [0, 1].

        The probability is that of the model that learned the sample. For an outlier it is that of
        the novel class that fits best.
        """
        shares = softmax(space.logits(self.logits).astype(np.float64), axis=1)
        found: NDArray[np.float64] = shares[np.arange(len(shares)), self.classes(space)]
        return found

    def with_classes_for_outliers(self, space: ClassSpace, threshold: float) -> LearnedSamples:
        """Return the samples; each outlier of at least this confidence has its best class."""
        assigned = self.outliers(space) & (self.confidence(space) >= threshold)
        return dataclasses.replace(self, settled=self.settled | assigned)
