"""A teacher of class relations from vectors of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from crkd.data.splits.partition import Subset
from crkd.training.teacher import FixedTeacher


def feature_teacher(path: str, parts: Sequence[Subset], device: torch.device) -> FixedTeacher:
    """Return a teacher with the logits of a linear classifier of the known classes.

    Args:
        path: an .npy file, ``(N, D)`` vectors of all training images.
        parts: labeled and unlabeled subset; the classifier learns the first alone.
        device: where the student computes.
    """
    vectors = np.load(path, allow_pickle=False)
    known = parts[0]
    scaler = StandardScaler().fit(vectors[known.indices])
    model = LogisticRegression(C=0.01, max_iter=500)
    model.fit(scaler.transform(vectors[known.indices]), known.labels)
    logits = [model.decision_function(scaler.transform(vectors[part.indices])) for part in parts]
    return FixedTeacher(torch.from_numpy(np.concatenate(logits)).float().to(device))
