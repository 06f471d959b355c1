"""Pseudo-labels of a step, from scores, class prior, queue and Sinkhorn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd.config.schema import AssignmentConfig
from crkd.core.errors import InputError
from crkd.models.heads.prototype import NovelHeads
from crkd.ot import sinkhorn
from crkd.ot.diagnostics import Diagnostics, diagnose
from crkd.ot.marginals import class_prior
from crkd.ot.queue import FeatureQueue

MIXED_ITERS = 50
"""Least number of iterations over known and novel classes. Trained known classes have sharp scores
and fresh novel ones have not, so that three iterations leave the class marginal unmet."""


class Assigner(nn.Module):
    """Balanced pseudo-labels for one set of novel heads.

    They are over the M classes of a head. With ``shares`` they are over the K known classes too,
    whose logits must be cosines over the same temperature.
    The prior's estimate and the queue's features are buffers: they are part of the saved state.

    Args:
        heads: the novel (or over-clustering) heads.
        settings: epsilon, iterations, prior, relaxation, queue.
        device: where the scores are.
        shares: ``(K + M,)`` expected shares of all classes, which sum to one; None if unlabeled
            samples are of novel classes alone.

    Raises:
        InputError: the prior or the queue does not fit the heads.
    """

    def __init__(
        self,
        heads: NovelHeads,
        settings: AssignmentConfig,
        device: torch.device,
        *,
        shares: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.temperature = heads.temperature
        num_heads, num_classes, width = heads.prototypes.shape
        self.num_iters = settings.num_iters
        if shares is not None:
            num_classes, self.num_iters = len(shares), max(settings.num_iters, MIXED_ITERS)
            if settings.queue:
                raise InputError("the queue keeps no features of known classes; set it to 0")
        self.prior = class_prior(
            settings.prior,
            num_heads,
            num_classes,
            weights=settings.prior_weights,
            momentum=settings.prior_momentum,
            smoothing=settings.prior_smoothing,
            expected=shares,
            device=device,
        )
        self.queue = (
            FeatureQueue(num_heads, settings.queue, width, device=device)
            if settings.queue
            else None
        )
        self._queue_on = settings.queue_start_epoch == 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the queue is used from its first epoch on and is filled before."""
        self._queue_on = epoch >= self.settings.queue_start_epoch

    @property
    def host_state(self) -> bool:
        """Whether the queue is used: the only state here that changes between epochs."""
        return self.queue is not None and self._queue_on

    @torch.no_grad()
    def forward(
        self, logits: Tensor, prototypes: Tensor, projections: Tensor | None = None
    ) -> Tensor:
        """Return pseudo-labels ``(V, H, N, M)`` of unlabeled rows, rows sum to one.

        They are ``(V, H, N, K + M)`` of joint logits, if there are ``shares``.

        Args:
            logits: ``(V, H, N, M)`` novel logits, that is cosine scores over the temperature; or
                joint logits ``(V, H, N, K + M)``.
            prototypes: ``(H, M, P)`` unit-length prototypes.
            projections: ``(V, H, N, P)`` unit-length projections; needed by the queue alone.
        """
        scores = logits.detach().float() * self.temperature
        marginal = self.prior.marginal()
        rows = scores.shape[-2]
        queued = scores
        if self.queue is not None and self._queue_on:
            queued = self.queue.extend(scores, prototypes)
        assignment = sinkhorn(
            queued,
            epsilon=self.settings.epsilon,
            num_iters=self.num_iters,
            class_marginal=marginal,
            backend=self.settings.backend,
            relaxation=self.settings.relaxation,
        )[..., :rows, :]
        self.prior.update(logits.detach().float().softmax(-1))
        if self.queue is not None:
            if projections is None:
                raise InputError("the queue needs the projections of the novel heads; pass them")
            # One view is enough: the others are of the same images.
            self.queue.push(projections[0])
        return assignment

    def diagnostics(self, assignment: Tensor) -> Diagnostics:
        """Return the metrics of the training log, without waiting for the device."""
        return diagnose(assignment, self.prior.marginal())
