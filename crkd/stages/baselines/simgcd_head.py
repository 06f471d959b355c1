"""SimGCD's classifier on frozen vectors: a baseline of generalized category discovery."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from crkd.clustering.kmeans import Floats
from crkd.losses.simgcd import entropy_gap, self_distillation
from crkd.losses.supervised import cross_entropy
from crkd.stages.discover.simgcd import SUPERVISED_WEIGHT, teacher_temperature

TEMPERATURE = 0.1
EPOCHS, LEAST_STEPS = 20, 300
"""More epochs where few rows make few steps."""
WARMUP = 0.15
"""Part of the epochs over which the teacher's temperature falls, as in the release (30 of 200)."""
BATCH_SIZE = 512
LEARNING_RATE, LAST_RATE = 1.0, 1e-3
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-5
FIRST_WEIGHTS = 0.02
"""Standard deviation of the first prototypes, as in the release."""


def simgcd_head(
    known: Floats,
    labels: NDArray[np.int64],
    unlabeled: Floats,
    num_novel: int,
    *,
    dropout: float,
    entropy_weight: float,
    seed: int,
) -> Floats:
    """Train the prototypes of SimGCD on rows and return them at unit length, ``(K + M, k)``.

    The loss is that of Wen et al. (ICCV 2023) without its contrastive terms, which train the
    backbone. Two views of a row are two dropout masks.

    Args:
        known: ``(n, k)`` labeled rows of unit length.
        labels: ``(n,)`` in ``[0, K)``.
        unlabeled: ``(N, k)`` rows of unit length.
        num_novel: M.
        dropout: probability that an entry of a view is 0, in [0, 1).
        entropy_weight: weight of the entropy of the mean prediction.
        seed: of prototypes, batches and views.
    """
    draw = torch.Generator().manual_seed(seed)
    rows = torch.from_numpy(np.concatenate([known, unlabeled]))
    truth = torch.from_numpy(labels.copy())
    shape = (int(labels.max()) + 1 + num_novel, rows.shape[1])
    weights = (FIRST_WEIGHTS * torch.randn(shape, generator=draw)).requires_grad_()
    steps = max(len(rows) // BATCH_SIZE, 1)
    epochs = max(EPOCHS, -(-LEAST_STEPS // steps))
    optimizer = torch.optim.SGD(
        [weights], lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps, LAST_RATE)
    for epoch in range(epochs):
        sharpening = TEMPERATURE / teacher_temperature(epoch / epochs / WARMUP)
        for batch in torch.randperm(len(rows), generator=draw).tensor_split(steps):
            kept = torch.rand(2, len(batch), shape[1], generator=draw) >= dropout
            views = functional.normalize(rows[batch] * kept, dim=-1)
            logits = views @ functional.normalize(weights, dim=-1).T / TEMPERATURE
            loss = (1 - SUPERVISED_WEIGHT) * (
                self_distillation(logits, sharpening, 2) + entropy_weight * entropy_gap(logits)
            )
            labeled = batch < len(known)
            if labeled.any():
                loss = loss + SUPERVISED_WEIGHT * cross_entropy(
                    logits[:, labeled], truth[batch[labeled]]
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return np.asarray(functional.normalize(weights.detach(), dim=-1).numpy(), np.float32)
