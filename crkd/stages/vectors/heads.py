"""Linear clustering heads on frozen rows, many at once, by gradients in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crkd.losses.temi import exchanged, softmax_, temi_gradient
from crkd.ot.sinkhorn import sinkhorn

LEAST_SHARE = 1e-6
"""Of a class: below it, the marginal's logarithm would be rounding."""


@dataclass(frozen=True)
class HeadSettings:
    """Training settings of heads.

    Attributes:
        objective: "temi" (:mod:`crkd.losses.temi`), or "sinkhorn": the balanced assignment of the
            teacher's scores of the neighbor is the target of cross-entropy (Caron et al., 2020).
        num_heads: H.
        steps: updates.
        batch_size: pairs of a step.
        learning_rate: of Adam, at the first step; a cosine leads it to 0.
        temperature: of the softmax of student and teacher.
        exponent: b of "temi".
        momentum: of the teacher's average.
        marginal_momentum: of the average of the class shares.
        epsilon: of "sinkhorn".
    """

    objective: str = "temi"
    num_heads: int = 12
    steps: int = 450
    batch_size: int = 512
    learning_rate: float = 3e-2
    temperature: float = 0.1
    exponent: float = 0.6
    momentum: float = 0.95
    marginal_momentum: float = 0.9
    epsilon: float = 0.05


@dataclass(frozen=True, eq=False)
class Heads:
    """Trained heads.

    Attributes:
        weights: ``(H, k, M)`` float32, the teacher's, divided by the temperature: products with
            rows are logits.
        losses: ``(H,)`` moving averages of the loss at the end.
    """

    weights: Tensor
    losses: Tensor

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits of ``(N, k)`` rows, ``(H, N, M)``."""
        return rows @ self.weights


def train_heads(
    rows: Tensor,
    neighbors: Tensor,
    num_novel: int,
    settings: HeadSettings,
    *,
    seed: int,
    start: Tensor | None = None,
) -> Heads:
    """Train heads so that a row and its neighbors get equal predictions and all classes are used.

    The gradient of both objectives with respect to the student's logits is known in closed form. So
    no graph is recorded, and a step of all heads is two matrix products.

    Args:
        rows: ``(N, k)`` float32 of unit length.
        neighbors: ``(N, n)`` int64, the rows that count as being of one class with each.
        num_novel: M.
        settings: of the training.
        seed: of first weights, batches and pairs; nothing else random is read or changed.
        start: ``(H, k, M)`` first weights; drawn from N(0, 1/k) where they are None.
    """
    generator = torch.Generator().manual_seed(seed)
    width = rows.shape[1]
    if start is None:
        shape = (settings.num_heads, width, num_novel)
        start = torch.randn(shape, generator=generator) / math.sqrt(width)
    trainer = _Trainer(start.permute(2, 0, 1), settings)
    # Products with these rows are logits.
    rows = rows / settings.temperature
    batch_size = min(settings.batch_size, len(rows))
    order, begin = torch.randperm(len(rows), generator=generator), 0
    for step in range(settings.steps):
        if begin + batch_size > len(rows):
            order, begin = torch.randperm(len(rows), generator=generator), 0
        first = order[begin : begin + batch_size]
        begin += batch_size
        drawn = torch.randint(neighbors.shape[1], (batch_size,), generator=generator)
        trainer.update(rows[torch.cat([first, neighbors[first, drawn]])], step)
    weights = trainer.teacher.permute(1, 2, 0).contiguous()
    return Heads(weights / settings.temperature, trainer.losses)


class _Trainer:
    """Student, teacher and the averages of Adam.

    Args:
        start: ``(M, H, k)`` first weights of both.
        settings: of the training.

    Attributes:
        teacher: ``(M, H, k)``.
        losses: ``(H,)`` moving averages.
    """

    def __init__(self, start: Tensor, settings: HeadSettings) -> None:
        # One matrix, so that the logits of both, of all heads, are one product.
        self._weights = torch.stack([start, start], dim=1)
        self._student, self.teacher = self._weights.unbind(1)
        self._first, self._second = torch.zeros(start.shape), torch.zeros(start.shape)
        self._marginal: Tensor | None = None
        self._settings = settings
        self.losses = torch.zeros(start.shape[1])

    def update(self, pairs: Tensor, step: int) -> None:
        """Do one step on ``(2 B, k)`` scaled rows, the second half the neighbors of the first."""
        settings = self._settings
        logits = self._weights.flatten(0, 2) @ pairs.T
        logits = logits.view(*self._weights.shape[:3], len(pairs))
        if settings.objective == "temi":
            losses, gradient = temi_gradient(logits, self._averaged, settings.exponent)
        else:
            losses, gradient = _assigned(logits, settings.epsilon / settings.temperature)
        self._adam((gradient.flatten(0, 1) @ pairs).view_as(self._first), step)
        self.teacher.lerp_(self._student, 1 - settings.momentum)
        self.losses = losses if step == 0 else self.losses.lerp(losses, 0.02)

    def _averaged(self, shares: Tensor) -> Tensor:
        if self._marginal is None:
            self._marginal = shares
        self._marginal = self._marginal.lerp(shares, 1 - self._settings.marginal_momentum)
        return self._marginal.clamp(min=LEAST_SHARE)

    def _adam(self, gradient: Tensor, step: int) -> None:
        settings = self._settings
        rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        self._first.lerp_(gradient, 0.1)
        self._second.lerp_(gradient.square_(), 0.001)
        size = (self._second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
        self._student.addcdiv_(self._first, size, value=-rate / (1 - 0.9 ** (step + 1)))


def _assigned(logits: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy with the balanced assignment of the partners, and its gradient.

    Args:
        logits: ``(M, 2, H, 2 B)`` of student and teacher; overwritten.
        epsilon: weight of the entropy, in units of the logits.

    Returns:
        Losses ``(H,)`` and gradient ``(M, H, 2 B)``.
    """
    student, teacher = logits.unbind(1)
    assignment = sinkhorn(teacher.permute(1, 2, 0), epsilon=epsilon, num_iters=3)
    targets = exchanged(assignment.permute(2, 0, 1))
    explained = (targets * student).sum(dim=0)
    losses = (softmax_(student) - explained).mean(dim=-1)
    return losses, (student - targets).div_(logits.shape[-1])
