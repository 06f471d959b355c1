"""The interface into which every distillation loss plugs."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.core.registry import Registry
from crkd.core.types import HeadOutputs

STAGES = frozenset({"pretrain", "discover", "distill"})
NEEDS = frozenset(
    {
        "teacher_logits",
        "feature_maps",
        "labels",
        "pseudo_labels",
        "stored_views",
        "teacher_classifier",
    }
)
ROWS = frozenset({"labeled", "unlabeled"})


class DistillationInputs(NamedTuple):
    """What a term sees of one training step.

    Student and teacher saw the same views of the same samples, in the same order.

    Attributes:
        student: outputs on the large views, with gradients.
        teacher: outputs of the frozen teacher; None for terms that need none of it.
        labels: ``(B,)`` int64 class ids, -1 where unlabeled; None if no term needs labels.
        num_labeled: rows ``[0, num_labeled)`` are labeled; a host integer.
        pseudo_labels: ``(V, H, B)`` int64 ids in ``[0, C)`` of the joint classes, one for every
            row and head: labels where there are any, else the assignment's (in discovery) or the
            teacher's (teacher to student) first choice; None if no term needs them.
        mix: ``(B,)`` share in [0, 1] of its own that each large view kept when it was mixed with
            the next view of the same image for the student; None where views were not mixed.
    """

    student: HeadOutputs
    teacher: HeadOutputs | None
    labels: Tensor | None = None
    num_labeled: int = 0
    pseudo_labels: Tensor | None = None
    mix: Tensor | None = None

    def of_teacher(self) -> HeadOutputs:
        """Return the teacher's outputs.

        Raises:
            RuntimeError: the caller left them out, although the term declares that it needs them.
        """
        if self.teacher is None:
            raise RuntimeError("a term that declares teacher_logits was given no teacher outputs")
        return self.teacher


class TermContext(NamedTuple):
    """What a term with modules of its own may ask about the two networks when it is made.

    Attributes:
        num_known: K.
        student_features: length of the student's feature vector.
        teacher_features: the same of the teacher; equals the student's where there is none.
        student_channels: channels of the student's feature maps, input side first.
        teacher_channels: the same of the teacher.
        teacher_head: the teacher's classifier of the known classes, frozen; None without one.
        stage: where the term will be used, one of ``STAGES``; ``build_term`` fills it in.
    """

    num_known: int
    student_features: int
    teacher_features: int
    student_channels: tuple[int, ...] = ()
    teacher_channels: tuple[int, ...] = ()
    teacher_head: nn.Module | None = None
    stage: str = "discover"


class DistillationTerm(nn.Module, ABC):
    """One loss term: inputs of a step in, a raw (unweighted) scalar out.

    Modules and parameters that the term trains are ordinary attributes; whoever owns the terms
    (an ``nn.ModuleDict``) hands them to the optimizer, the device and the checkpoint.

    Attributes:
        stages: where the term applies, a subset of ``STAGES``.
        needs: what must be computed for it, a subset of ``NEEDS``; an option may change it for one
            term (``on: pseudo`` needs pseudo-labels in place of labels). ``teacher_classifier``
            asks for a student that ends in the teacher's own frozen classifier.
        weight: with which the term was published; taken where the configuration leaves it out.
        supervised: weight of the labels' cross-entropy beside it, where labels train the student.
        beside: other terms that belong to the published loss, name to weight; a command that is
            given the name alone adds them.
        rows: the kinds of samples it looks at during discovery, a subset of ``ROWS``; the
            teacher need not run on the others.
        self_mix: probability with which the student's large views of an image are mixed for it
            (``DistillationInputs.mix``); an option.
    """

    stages: ClassVar[frozenset[str]]
    needs: frozenset[str]
    weight: ClassVar[float] = 1.0
    supervised: ClassVar[float] = 1.0
    beside: ClassVar[Mapping[str, float]] = MappingProxyType({})
    rows: ClassVar[frozenset[str]] = ROWS
    self_mix: float = 0.0

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> DistillationTerm:
        """Make the term for two given networks; override where their shapes matter."""
        del context
        return cls(**options)

    @abstractmethod
    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw scalar loss: finite and differentiable also without any row."""


TERMS: Registry[type[DistillationTerm]] = Registry(
    "distillation loss", "crkd.losses.distillation", "crkd.losses"
)


def terms_for(stage: str) -> list[str]:
    """Return the names of the terms that apply in ``stage``; plug-ins only once asked for."""
    return [name for name, term in TERMS.loaded().items() if stage in term.stages]


def build_term(
    name: str, *, stage: str, context: TermContext, options: Mapping[str, Any] | None = None
) -> DistillationTerm:
    """Make the term called ``name``.

    Args:
        name: registered name.
        stage: where it will be used, one of ``STAGES``.
        context: shapes of the two networks.
        options: keyword options of the term.

    Raises:
        InputError: unknown name or option, an option out of range, or a term that does not
            apply in this stage; the message names the alternatives.
    """
    term = TERMS.get(name)
    if stage not in term.stages:
        raise InputError(
            f"distillation loss {name!r} does not apply in stage {stage!r}; "
            f"choose one of: {', '.join(terms_for(stage)) or 'none exists'}"
        )
    options = dict(options or {})
    allowed = option_names(term)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InputError(
            f"distillation loss {name!r} has no option {', '.join(map(repr, unknown))}; "
            f"its options are: {', '.join(allowed) or 'none'}"
        )
    if stage == "discover" and "labels" in term.needs and "on" not in options:
        raise InputError(
            f"distillation loss {name!r} needs labels, which unlabeled images do not have; add "
            "options: {on: labeled} (labeled images alone) or {on: pseudo} (pseudo-labels)"
        )
    return term.from_context(context._replace(stage=stage), **options)


def checked_temperature(term: str, temperature: float) -> float:
    """Return a term's temperature.

    Raises:
        InputError: it is not finite and above 0.
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"{term}: temperature is {temperature}; it must be finite and above 0")
    return temperature


def option_names(term: type[DistillationTerm]) -> list[str]:
    """Return the options of ``term``: the keyword-only parameters of its constructor."""
    parameters = inspect.signature(term.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
