"""The configured distillation terms of a stage: made, weighted by schedule, summed and logged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from crkd.config.blocks import TermConfig
from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.losses.term import (
    TERMS,
    DistillationInputs,
    DistillationTerm,
    TermContext,
    build_term,
    terms_for,
)
from crkd.models.network import Network
from crkd.training.teacher import needs_of
from crkd.training.term_options import typed_options

OFFERS = {
    "pretrain": frozenset({"labels"}),
    "discover": frozenset({"teacher_logits", "feature_maps", "labels", "pseudo_labels"}),
    "distill": frozenset(
        {"teacher_logits", "feature_maps", "labels", "pseudo_labels", "teacher_classifier"}
    ),
}
"""Inputs of a term that each stage provides."""

NEED_NETWORK = frozenset({"feature_maps", "teacher_classifier"})
"""Inputs that need the teacher's network; stored or fixed outputs replace its logits alone."""

TeacherKind = Literal["network", "stored", "fixed"]
"""The teacher's network, stored labels of views, or fixed outputs of whole images."""

FROM_TEACHER = NEED_NETWORK | {"teacher_logits"}

TERM_SEED = 1_000_003
"""Keeps the initial weights of the terms apart from each other and from neighboring seeds."""


class Terms(nn.Module):
    """The terms of one stage, with the weights of the current epoch.

    The weights are one buffer on the device, changed in place between epochs, so that a captured
    step reads the right ones. They follow from the epoch alone and are not
    part of a saved state.

    Args:
        wanted: names, weights, schedules and options.
        stage: one of ``crkd.losses.term.STAGES``.
        context: shapes of the two networks.
        seed: of the terms' initial weights.
        epochs: of the whole stage.
        teacher: where the teacher's outputs come from.

    Attributes:
        needs: everything that some term needs.
        self_mix: probability with which the student's large views of an image are mixed.

    Raises:
        InputError: a term does not exist, does not apply here, or needs what the stage lacks.
    """

    weights: Tensor

    def __init__(
        self,
        wanted: Sequence[TermConfig],
        *,
        stage: str,
        context: TermContext,
        seed: int,
        epochs: int,
        teacher: TeacherKind = "network",
    ) -> None:
        super().__init__()
        made = []
        for number, settings in enumerate(wanted):
            # A stream of its own for each: adding a term leaves the others' weights as they were.
            with seeded(seed + TERM_SEED * (number + 1)):
                options = typed_options(settings)
                term = build_term(settings.name, stage=stage, context=context, options=options)
            _check_needs(settings.name, term.needs, stage, teacher)
            made.append(term)
        self.terms = nn.ModuleList(made)
        self.needs = needs_of(made)
        if teacher == "stored" and "teacher_logits" not in self.needs:
            raise InputError(
                f"{stage}.stored_epochs keeps a teacher's labels, and no distillation loss here "
                "reads them; set it to 0"
            )
        self.self_mix = _common_self_mix([settings.name for settings in wanted], made)
        self._wanted, self._stage, self._epochs = tuple(wanted), stage, epochs
        self._labels = _distinct([settings.name for settings in wanted])
        self.register_buffer("weights", torch.zeros(len(made)), persistent=False)
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.terms)

    def __iter__(self) -> Iterator[DistillationTerm]:
        return iter(self.terms)  # type: ignore[arg-type]

    @property
    def needs_teacher(self) -> bool:
        """Whether some term looks at outputs of a teacher."""
        return bool(self.needs & FROM_TEACHER)

    def set_epoch(self, epoch: int) -> None:
        """Put the weights of an epoch, counted from 0, where the step reads them."""
        weights = [
            weight_at(settings, epoch, self._epochs, stage=self._stage) for settings in self._wanted
        ]
        self.weights.copy_(torch.tensor(weights))

    def forward(self, inputs: DistillationInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and each term raw and weighted for the log.

        Args:
            inputs: of the step; there is at least one term.

        Raises:
            InputError: a term, such as that of a plug-in, returned no scalar.
        """
        named: dict[str, Tensor] = {}
        weighted = []
        for label, term, weight in zip(self._labels, self.terms, self.weights, strict=True):
            named[label] = _scalar(label, term(inputs))
            weighted.append(weight * named[label])
            named[f"{label}_weighted"] = weighted[-1]
        return torch.stack(weighted).sum(), named


def _scalar(label: str, value: object) -> Tensor:
    """Return what a term returned; refuse what is no scalar tensor."""
    if isinstance(value, Tensor) and value.ndim == 0:
        return value
    shape = f" of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise InputError(
        f"distillation loss {label!r} returned a {type(value).__name__}{shape}; return a scalar "
        "tensor, such as a mean"
    )


def weight_at(settings: TermConfig, epoch: int, epochs: int, *, stage: str) -> float:
    """Return a term's weight in ``epoch``, counted from 0: linear warm-up, then cosine.

    >>> settings = TermConfig("kd", weight=2.0, warmup_epochs=2, end_weight=1.0)
    >>> [round(weight_at(settings, epoch, 7, stage="distill"), 3) for epoch in range(7)]
    [0.0, 1.0, 2.0, 1.854, 1.5, 1.146, 1.0]
    """
    full = settings.weight
    if full is None:
        full = TERMS.get(settings.name).default_weight(stage)
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return full * epoch / warmup
    if settings.end_weight is None:
        return full
    left = epochs - 1 - warmup
    progress = min(1.0, (epoch - warmup) / left) if left > 0 else 1.0
    return settings.end_weight + 0.5 * (full - settings.end_weight) * (
        1 + math.cos(math.pi * progress)
    )


def supervised_weight(given: float | None, wanted: Sequence[TermConfig]) -> float:
    """Return the factor of the labels' cross-entropy: as given, else what the terms ask for.

    Of several the largest counts; without terms it is 1.
    """
    if given is not None:
        return given
    return max((TERMS.get(settings.name).supervised for settings in wanted), default=1.0)


def published(name: str) -> tuple[TermConfig, ...]:
    """Return the list of terms that a method is known by, with its published weights.

    Raises:
        InputError: there is no such term.

    >>> [(term.name, term.weight) for term in published("semckd")]
    [('semckd', None), ('kd', 1.0)]
    """
    others = [TermConfig(other, weight) for other, weight in TERMS.get(name).beside.items()]
    return (TermConfig(name), *others)


def context_of(
    student: Network, teacher: Network, teacher_head: nn.Module | None, num_known: int
) -> TermContext:
    """Return what terms may ask about two networks.

    Args:
        student: which is trained.
        teacher: which is not; the student itself where there is none.
        teacher_head: the teacher's classifier, frozen.
        num_known: classes on which both agree.
    """
    return TermContext(
        num_known=num_known,
        student_features=student.backbone.num_features,
        teacher_features=teacher.backbone.num_features,
        student_channels=student.backbone.map_channels,
        teacher_channels=teacher.backbone.map_channels,
        teacher_head=teacher_head,
    )


def check_offered(wanted: Sequence[TermConfig], stage: str, teacher: TeacherKind) -> None:
    """Refuse terms that need what a stage lacks, before any network is made.

    Raises:
        InputError: a term does not exist, or needs what the stage lacks.
    """
    for settings in wanted:
        term = TERMS.get(settings.name)
        if stage in term.stages:
            _check_needs(settings.name, term.needs, stage, teacher)


def _check_needs(name: str, needs: frozenset[str], stage: str, teacher: TeacherKind) -> None:
    offers = OFFERS[stage]
    if teacher != "network":
        offers = offers - NEED_NETWORK
    if teacher == "stored":
        offers = offers | {"stored_views"}
    lacking = needs - offers
    if not lacking:
        return
    terms = TERMS.loaded()
    fitting = [n for n in terms_for(stage) if terms[n].needs <= offers]
    remedy = f"choose one of: {', '.join(fitting)}"
    lacks = f"which stage {stage!r} does not have"
    if teacher == "fixed":
        lacks = "which a teacher on feature vectors does not have"
    elif "stored_views" in lacking:
        remedy = f"set {stage}.stored_epochs to a number of passes to store, or {remedy}"
    elif lacking & NEED_NETWORK and lacking <= OFFERS[stage]:
        remedy = f"set {stage}.stored_epochs to 0, which keeps the teacher at hand, or {remedy}"
    if teacher == "stored":
        lacks += " with stored labels"
    raise InputError(
        f"distillation loss {name!r} needs {', '.join(sorted(lacking))}, {lacks}; {remedy}"
    )


def _common_self_mix(names: Sequence[str], terms: Sequence[DistillationTerm]) -> float:
    """Return the one probability for all terms that compare the student's views with a teacher."""
    wanted = {
        name: term.self_mix
        for name, term in zip(names, terms, strict=True)
        if term.needs & FROM_TEACHER
    }
    if len(set(wanted.values())) > 1:
        listed = ", ".join(f"{name} {value:g}" for name, value in wanted.items())
        raise InputError(
            f"self_mix changes the student's views for all losses that compare them with the "
            f"teacher's, and they ask for different values ({listed}); set self_mix to 0"
        )
    return max(wanted.values(), default=0.0)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names for the log, a term's second appearance with a prime.

    >>> _distinct(["kd", "vid", "kd"])
    ['kd', 'vid', "kd'"]
    """
    labels: list[str] = []
    for name in names:
        while name in labels:
            name += "'"
        labels.append(name)
    return labels
