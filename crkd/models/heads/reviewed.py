"""Reviewed head: a novel head with merged, split or rejected classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.models.heads.prototype import NovelHeads


class ReviewedHead(NovelHeads):
    """One novel head whose R prototypes are mapped to M reviewed classes.

    Every prototype has W parts. If its class was split, one direction ``d_w`` for each part divides
    it. The logit of part w is the prototype's logit plus
    ``(cos(x, d_w) - max_v cos(x, d_v)) / temperature``. The largest of them is therefore the
    prototype's own logit. The logit of a class is the largest among its parts. Parts of class -1,
    which was rejected, give no logit. Parts of class ``-2 - k`` were merged into the known class k
    and raise its logit, see :meth:`raised`.

    A decision changes only the predictions for images of its classes. Images of merged classes get
    the merged class, and those of a split class get one of its parts. Those of a rejected class
    get the class with the second-largest logit.

    Args:
        num_features: length D of the backbone features.
        classes: the class of each part, W for every prototype: ``R W`` ids below M, in which every
            class occurs.
        hidden: width of the hidden layer.
        projection: length P of the projected features.
        temperature: divides the cosines.
        num_parts: W, at least 2.
    """

    sides: Tensor
    """``(R, W, P)`` directions of the parts; zero for a prototype that is not split."""
    members: Tensor
    """``(M, V)`` int64 parts of every class; shorter lists repeat their first entry."""

    def __init__(
        self,
        num_features: int,
        classes: Sequence[int],
        *,
        hidden: int,
        projection: int,
        temperature: float,
        num_parts: int = 2,
    ) -> None:
        check_classes(classes, num_parts)
        super().__init__(
            num_features,
            len(classes) // num_parts,
            1,
            hidden=hidden,
            projection=projection,
            temperature=temperature,
        )
        self.classes, self.num_parts = tuple(classes), num_parts
        self.register_buffer("sides", torch.zeros(len(classes) // num_parts, num_parts, projection))
        lists = [
            [part for part, own in enumerate(classes) if own == class_id]
            for class_id in range(max(classes) + 1)
        ]
        width = max(map(len, lists))
        padded = torch.tensor([parts + parts[:1] * (width - len(parts)) for parts in lists])
        # A function of the classes, not a weight.
        self.register_buffer("members", padded, persistent=False)

    def cosine_logits(self, directions: Tensor) -> Tensor:
        """Return the ``(1, B, M)`` logits of ``(1, B, P)`` projected features of any length."""
        return self._part_logits(directions)[..., self.members].amax(dim=-1)

    def raised(self, known: Tensor, directions: Tensor) -> Tensor:
        """Return known logits that include the parts merged into known classes.

        Args:
            known: ``(B, K)`` logits of the known classes.
            directions: ``(1, B, P)`` projected features.

        Returns:
            ``(B, K)``; each is the larger of the known logit and those of its parts.
        """
        parts = [part for part, own in enumerate(self.classes) if own < -1]
        if not parts:
            return known
        target = torch.tensor([-2 - self.classes[part] for part in parts], device=known.device)
        logits = self._part_logits(directions)[0][:, parts].to(known.dtype)
        return known.scatter_reduce(1, target.expand(known.shape[0], -1), logits, "amax")

    @torch.no_grad()
    def single(self, head: int) -> NovelHeads:
        """Return a copy, because there is only one head."""
        del head
        return copy.deepcopy(self)

    def _part_logits(self, directions: Tensor) -> Tensor:
        """Return the ``(1, B, R W)`` logits of the parts of all prototypes."""
        whole = super().cosine_logits(directions)
        count, width, _ = self.sides.shape
        with torch.autocast(directions.device.type, enabled=False):
            unit = F.normalize(directions.to(whole.dtype), dim=-1)
            cosines = unit @ self.sides.to(whole.dtype).flatten(0, 1).T
            cosines = cosines.view(*whole.shape[:-1], count, width)
            margins = (cosines - cosines.amax(dim=-1, keepdim=True)) / self.temperature
        parts: Tensor = (whole.unsqueeze(-1) + margins).flatten(-2)
        return parts


def reviewed(
    head: NovelHeads, outcomes: Sequence[Sequence[int]], sides: dict[int, Tensor]
) -> ReviewedHead:
    """Return the reviewed version of a head, which may have been reviewed before.

    Args:
        head: one head with M classes.
        outcomes: for each class the new class of each of its parts, one unless it is split; -1 is
            no class, and ``-2 - k`` is the known class k.
        sides: unit-length directions ``(parts, P)`` of each class that is split.

    Raises:
        InputError: a class that was split before is to be split again.
    """
    before = head if isinstance(head, ReviewedHead) else None
    weights = head.prototypes.detach()
    count = weights.shape[1]
    wide = before.num_parts if before else 2
    old = before.classes if before else [m for m in range(count) for _ in range(wide)]
    width = max(wide, *map(len, outcomes))
    directions = weights.new_zeros(count, width, weights.shape[-1])
    classes: list[int] = []
    for prototype in range(count):
        own = old[prototype * wide : (prototype + 1) * wide]
        divided = before is not None and bool(before.sides[prototype].any())
        if before is not None and divided:
            directions[prototype] = _padded(before.sides[prototype], width)
            parts = [_whole(class_id, outcomes) for class_id in own]
        elif own[0] < 0:
            parts = [own[0]]
        else:
            parts = list(outcomes[own[0]])
            if len(set(parts)) > 1:
                directions[prototype] = _padded(sides[own[0]].to(directions), width)
        classes += parts + parts[-1:] * (width - len(parts))
    # The weights that are drawn here are overwritten; the caller's random state stays.
    with seeded(0):
        made = ReviewedHead(
            head.hidden.in_features,
            classes,
            hidden=head.hidden.out_features,
            projection=weights.shape[-1],
            temperature=head.temperature,
            num_parts=width,
        ).to(weights.device)
    made.load_state_dict({**head.state_dict(), "sides": directions})
    return made.train(head.training)


def check_classes(classes: Sequence[int], num_parts: int = 2) -> None:
    """Check that a list contains the classes of all parts.

    Raises:
        InputError: it is empty or no multiple of the number of parts, or a class is missing.
    """
    wanted = set(range(max(classes, default=-1) + 1))
    given = {class_id for class_id in classes if class_id >= 0}
    if num_parts < 2 or not wanted or len(classes) % num_parts or given != wanted:
        raise InputError(
            f"classes of a reviewed head are {tuple(classes)!r:.120}; give {num_parts} for every "
            "prototype, from 0 on without a gap, or -1"
        )


def _whole(class_id: int, outcomes: Sequence[Sequence[int]]) -> int:
    """Return the new class of a part, which cannot be split."""
    if class_id < 0:
        return class_id
    if len(set(outcomes[class_id])) > 1:
        raise InputError(
            f"the discovered class at place {class_id} holds a part of a class that was split "
            "before, and a part cannot be split; decide otherwise in the first review"
        )
    return outcomes[class_id][0]


def _padded(directions: Tensor, width: int) -> Tensor:
    """Return ``(width, P)`` directions; the last one is repeated."""
    rest = directions[-1:].expand(width - len(directions), -1)
    return torch.cat([directions, rest])
