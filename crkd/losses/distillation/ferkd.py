"""FerKD: soft labels adapted to the difficulty of a region, and SelfMix of two views of one image.

Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation", ICCV 2023. No code of the loss
was released. Where the paper is not specific, an option states the default chosen here.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.losses.distillation.fkd import soft_cross_entropy
from crkd.losses.precision import log_softmax
from crkd.losses.term import ON, TERMS, DistillationInputs, DistillationTerm, checked_choice

WITHOUT_LABEL = ("keep", "drop")


class Regions(NamedTuple):
    """Regions of views by score; both fields have the shape of the scores.

    Attributes:
        informative: bool, neither among the lowest nor among the highest scores.
        hard: bool, informative, but next to the lowest.
    """

    informative: Tensor
    hard: Tensor


def regions(scores: Tensor, *, lowest: float, hard: float, highest: float) -> Regions:
    """Classify views by their score relative to each other.

    Equal scores get the same region, the more informative one: a batch of equal scores is
    informative, not hard.

    Args:
        scores: ``(V, n)``, compared over all of them; n may be 0.
        lowest: fraction of the lowest scores, which are not informative.
        hard: fraction above it that is hard.
        highest: fraction of the highest scores, which are not informative.

    >>> found = regions(torch.arange(10.0)[None], lowest=0.1, hard=0.2, highest=0.1)
    >>> found.informative[0].tolist().index(False), found.informative.sum().item()
    (0, 8)
    >>> found.hard.nonzero()[:, 1].tolist()
    [1, 2]
    """
    count = scores.numel()
    if count == 0:
        nothing = torch.zeros_like(scores, dtype=torch.bool)
        return Regions(nothing, nothing)
    ascending = scores.flatten().sort().values
    # A fraction that is a whole number up to rounding counts as that number.
    ranks = [math.floor(share * count + 1e-9) for share in (lowest, lowest + hard, highest)]
    below, under, above = (min(rank, count - 1) for rank in ranks)
    informative = (scores >= ascending[below]) & (scores <= ascending[count - 1 - above])
    return Regions(informative, informative & (scores < ascending[under]))


@TERMS.register("ferkd")
class FerKd(DistillationTerm):
    """Cross-entropy with stored soft labels, some of them left out and some replaced.

    The teacher's largest probability s of a view is compared with that of all views of the batch,
    separately for labeled and unlabeled rows. The teacher is less certain of novel images, so one
    threshold for both would leave most of them out. From the lowest s upwards::

        lowest               uninformative: left out
        hard                 the label, smoothed: 1 - eps for it, eps / (C - 1) for every other
        (the others)         important: the stored soft label, unchanged
        highest              uninformative: left out

        loss = sum_{v,b} w_vb CE_vb / sum_{v,b} w_vb,   w = 0 where left out, else 1

    With SelfMix the student gets ``share`` of a view and the rest of the next view of the same
    image. Its loss is ``share`` times that of the view's own adapted label, plus the rest times
    that of the other view's label.

    Args:
        lowest: fraction of views left out as too uncertain.
        hard: fraction of views next to them that get the smoothed label.
        highest: fraction of views left out as too certain.
        smoothing: eps, in [0, 1).
        on: source of the labels of hard views. ``labeled``: those of labeled rows, over the known
            classes; ``pseudo``: pseudo-labels of every row, over the joint classes of each head.
        without_label: treatment of a hard view whose row has no label: ``keep`` its soft label
            or ``drop`` it.
        self_mix: probability that the large views of an image are mixed, in [0, 1].

    Raises:
        InputError: an option is out of range.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"discover", "distill"})
    needs: frozenset[str] = frozenset({"teacher_logits", "stored_views", "labels"})
    supervised: ClassVar[float] = 0.0

    def __init__(
        self,
        *,
        lowest: float = 0.1,
        hard: float = 0.2,
        highest: float = 0.1,
        smoothing: float = 0.1,
        on: str = "labeled",
        without_label: str = "keep",
        self_mix: float = 0.0,
    ) -> None:
        super().__init__()
        for option, share in (("lowest", lowest), ("hard", hard), ("highest", highest)):
            if not 0 <= share < 1:
                raise InputError(f"ferkd: {option} is {share}; it must be at least 0 and below 1")
        if not lowest + hard + highest < 1:
            raise InputError(
                f"ferkd: lowest + hard + highest is {lowest + hard + highest:g}; it must be below "
                "1, so that some soft labels are left"
            )
        if not 0 <= smoothing < 1:
            raise InputError(f"ferkd: smoothing is {smoothing}; it must be at least 0 and below 1")
        if not 0 <= self_mix <= 1:
            raise InputError(f"ferkd: self_mix is {self_mix}; it must be in [0, 1]")
        self.on = checked_choice("ferkd", "on", on, ON)
        self.without_label = checked_choice("ferkd", "without_label", without_label, WITHOUT_LABEL)
        if on == "pseudo":
            self.needs = self.needs - {"labels"} | {"pseudo_labels"}
        self.shares = {"lowest": lowest, "hard": hard, "highest": highest}
        self.smoothing, self.self_mix = smoothing, self_mix

    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw loss over all views and rows.

        Raises:
            RuntimeError: the stored labels, or the labels that it needs, are missing.
        """
        soft = log_softmax(inputs.of_teacher().known_logits.detach()).exp()
        logits, labels = inputs.logits_and_labels(self.on)
        found = self._regions(soft.amax(dim=-1), inputs.num_labeled)
        relabeled = found.hard & (labels >= 0).all(dim=1)
        weight = found.informative
        if self.without_label == "drop":
            weight = weight & (relabeled | ~found.hard)
        student, weight = inputs.student.known_logits, weight.to(soft.dtype)

        def weighted(turn: int) -> tuple[Tensor, Tensor]:
            """Return loss and weight of every view under the label of the ``turn``-th next one."""
            target, y, is_hard, w = (t.roll(-turn, 0) for t in (soft, labels, relabeled, weight))
            on_label = _smoothed_cross_entropy(logits, y, self.smoothing).mean(dim=1)
            return w * torch.where(is_hard, on_label, soft_cross_entropy(student, target)), w

        loss, kept = weighted(0)
        if inputs.mix is not None:
            other_loss, other_kept = weighted(1)
            loss = torch.lerp(other_loss, loss, inputs.mix.to(loss.dtype))
            kept = torch.lerp(other_kept, kept, inputs.mix.to(kept.dtype))
        # The weights stay on the device; if all are zero, so is the loss.
        return loss.sum() / kept.sum().clamp(min=torch.finfo(kept.dtype).eps)

    def _regions(self, scores: Tensor, num_labeled: int) -> Regions:
        """Return the regions of labeled and unlabeled rows, computed separately."""
        kinds = (scores[:, :num_labeled], scores[:, num_labeled:])
        found = [regions(kind, **self.shares) for kind in kinds]
        return Regions(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))


def _smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy ``(...)`` with ``1 - eps`` on the label, the rest on all others."""
    log_q = log_softmax(logits)
    on_label = log_q.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    others = (log_q.sum(dim=-1) - on_label) / max(log_q.shape[-1] - 1, 1)
    return -(1 - smoothing) * on_label - smoothing * others
