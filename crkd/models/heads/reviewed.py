"""Reviewed head: a novel head with merged, split or rejected classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.models.heads.prototype import NovelHeads


class ReviewedHead(NovelHeads):
    """One novel head whose R prototypes are mapped to M reviewed classes.

    Every prototype has two halves. If its class was split, two directions a and b divide it by the
    margin ``m = (cos(x, a) - cos(x, b)) / temperature``. The logit of the first half is the
    prototype's logit plus ``min(0, m)``, and that of the second half adds ``min(0, -m)``. The
    larger of the two is therefore the prototype's own logit. The logit of a class is the largest
    among its halves. Halves of class -1, which was rejected, give no logit.

    A decision changes only the predictions for images of its classes. Images of merged classes get
    the merged class, and those of a split class get one of its halves. Those of a rejected class
    get the class with the second-largest logit.

    Args:
        num_features: length D of the backbone features.
        classes: the class of each half, two for every prototype: ``2 R`` ids in ``[-1, M)``, in
            which every class occurs.
        hidden: width of the hidden layer.
        projection: length P of the projected features.
        temperature: divides the cosines.
    """

    sides: Tensor
    """``(R, 2, P)`` directions of the halves; zero for a prototype that is not split."""
    members: Tensor
    """``(M, W)`` int64 halves of every class; shorter lists repeat their first entry."""

    def __init__(
        self,
        num_features: int,
        classes: Sequence[int],
        *,
        hidden: int,
        projection: int,
        temperature: float,
    ) -> None:
        check_classes(classes)
        super().__init__(
            num_features,
            len(classes) // 2,
            1,
            hidden=hidden,
            projection=projection,
            temperature=temperature,
        )
        self.classes = tuple(classes)
        self.register_buffer("sides", torch.zeros(len(classes) // 2, 2, projection))
        lists = [
            [half for half, own in enumerate(classes) if own == class_id]
            for class_id in range(max(classes) + 1)
        ]
        width = max(map(len, lists))
        padded = torch.tensor([halves + halves[:1] * (width - len(halves)) for halves in lists])
        # A function of the classes, not a weight.
        self.register_buffer("members", padded, persistent=False)

    def cosine_logits(self, directions: Tensor) -> Tensor:
        """Return the ``(1, B, M)`` logits of ``(1, B, P)`` projected features of any length."""
        whole = super().cosine_logits(directions)
        with torch.autocast(directions.device.type, enabled=False):
            unit = F.normalize(directions.to(whole.dtype), dim=-1)
            between = (self.sides[:, 0] - self.sides[:, 1]).to(whole.dtype)
            margin = unit @ between.T / self.temperature
        halves = torch.stack([whole + margin.clamp(max=0), whole - margin.clamp(min=0)], dim=-1)
        return halves.flatten(-2)[..., self.members].amax(dim=-1)

    @torch.no_grad()
    def single(self, head: int) -> NovelHeads:
        """Return a copy, because there is only one head."""
        del head
        return copy.deepcopy(self)


def reviewed(
    head: NovelHeads, outcomes: Sequence[tuple[int, int]], sides: dict[int, Tensor]
) -> ReviewedHead:
    """Return the reviewed version of a head, which may have been reviewed before.

    Args:
        head: one head with M classes.
        outcomes: for each class the new class of its first and of its second half; both are the
            same unless it is split; -1 is no class.
        sides: ``(2, P)`` unit-length directions of each class that is split.

    Raises:
        InputError: a class that was split before is to be split again.
    """
    old = head.classes if isinstance(head, ReviewedHead) else _whole(head.prototypes.shape[1])
    weights = head.prototypes.detach()
    before = head.sides if isinstance(head, ReviewedHead) else None
    directions = weights.new_zeros(len(old) // 2, 2, weights.shape[-1])
    if before is not None:
        directions.copy_(before)
    classes = []
    for half, class_id in enumerate(old):
        outcome = (-1, -1) if class_id < 0 else outcomes[class_id]
        classes.append(outcome[half % 2])
        if outcome[0] != outcome[1]:
            if before is not None and before[half // 2].any():
                raise InputError(
                    f"the discovered class at place {class_id} holds a half of a class that was "
                    "split before, and a half cannot be split; decide otherwise in the first review"
                )
            directions[half // 2] = sides[class_id].to(directions)
    made = ReviewedHead(
        head.hidden.in_features,
        classes,
        hidden=head.hidden.out_features,
        projection=weights.shape[-1],
        temperature=head.temperature,
    ).to(weights.device)
    made.load_state_dict({**head.state_dict(), "sides": directions})
    return made.train(head.training)


def check_classes(classes: Sequence[int]) -> None:
    """Check that a list contains the classes of all halves.

    Raises:
        InputError: it is empty or odd in length, or a class is missing.
    """
    wanted = set(range(max(classes, default=-1) + 1))
    if not wanted or len(classes) % 2 or set(classes) - {-1} != wanted:
        raise InputError(
            f"classes of a reviewed head are {tuple(classes)!r:.120}; give two for every "
            "prototype, from 0 on without a gap, or -1"
        )


def _whole(count: int) -> tuple[int, ...]:
    return tuple(prototype for prototype in range(count) for _ in range(2))
