"""Distillation term interface and registry."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
ON = ("labeled", "pseudo")
"""Sources of labels: those of labeled rows, or the pseudo-labels of every head and row."""


class DistillationInputs(NamedTuple):
    """Inputs of a term in one training step.

    Student and teacher get the same views of the same samples, in the same order.

    Attributes:
        student: outputs on the large views, with gradients.
        teacher: outputs of the frozen teacher; None for terms without a teacher.
        labels: ``(B,)`` int64 class ids, -1 for unlabeled samples; None if no term needs labels.
        num_labeled: rows ``[0, num_labeled)`` are labeled; a Python integer.
        pseudo_labels: ``(V, H, B)`` int64 ids in ``[0, C)`` of the joint classes, one for every
            row and head. For labeled rows these are the labels. For the others they are the argmax
            of the assignment (in discovery) or of the teacher (teacher to student). None if no
            term needs them.
        mix: ``(B,)`` fraction in [0, 1] that each large view of the student kept when it was mixed
            with the next view of the same image; None if views were not mixed.
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

    def logits_and_labels(self, on: str) -> tuple[Tensor, Tensor]:
        """Return the student's logits and the labels to compare them with.

        Args:
            on: one of ``ON``. ``labeled``: known logits and labels; ``pseudo``: joint logits and
                pseudo-labels.

        Returns:
            ``(V, H, B, C)`` logits and ``(V, H, B)`` int64 labels, -1 for none. For ``labeled`` H
            is 1 and C is K.

        Raises:
            RuntimeError: the caller left the labels out, although the term declares that it needs
                them.
        """
        if on == "pseudo":
            need, logits, labels = "pseudo_labels", self.student.joint_logits(), self.pseudo_labels
        else:
            need, logits, labels = "labels", self.student.known_logits.unsqueeze(1), self.labels
        if labels is None:
            raise RuntimeError(f"a term that declares {need} was given none")
        return logits, labels.expand(logits.shape[:-1])


class TermContext(NamedTuple):
    """Properties of the two networks for the construction of a term.

    Attributes:
        num_known: K.
        student_features: length of the student's feature vector.
        teacher_features: the same of the teacher; equals the student's without a teacher.
        student_channels: channels of the student's feature maps, input side first.
        teacher_channels: the same of the teacher.
        teacher_head: the teacher's classifier of the known classes, frozen; None without one.
        stage: stage of the term, one of ``STAGES``; ``build_term`` fills it in.
    """

    num_known: int
    student_features: int
    teacher_features: int
    student_channels: tuple[int, ...] = ()
    teacher_channels: tuple[int, ...] = ()
    teacher_head: nn.Module | None = None
    stage: str = "discover"


class DistillationTerm(nn.Module, ABC):
    """One loss term: maps the inputs of a step to a raw (unweighted) scalar.

    Trained modules and parameters of the term are ordinary attributes. The owner of the terms,
    ``crkd.training.Terms``, passes them to the optimizer, the device and the checkpoint.

    Attributes:
        stages: stages in which the term applies, a subset of ``STAGES``.
        needs: inputs that must be computed for it, a subset of ``NEEDS``. An option may change it
            for one term (``on: pseudo`` needs pseudo-labels instead of labels).
            ``teacher_classifier`` requires a student that ends in the teacher's frozen classifier.
        weight: published weight; used if the configuration does not give one.
        discovery_weight: the same in discovery, where the published weight is too large; None
            takes ``weight`` there too.
        supervised: weight of the cross-entropy with labels added to it, if labels train the
            student.
        beside: other terms of the published loss, name to weight; a command adds them if only the
            name is given.
        same_architecture: whether the method is defined for a student of the teacher's
            architecture; its heads are then of the teacher's kind by default.
        rows: kinds of samples that it uses during discovery, a subset of ``ROWS``; the teacher
            need not run on the others.
        self_mix: probability that the student's large views of an image are mixed
            (``DistillationInputs.mix``); an option.
    """

    stages: ClassVar[frozenset[str]]
    needs: frozenset[str]
    weight: ClassVar[float] = 1.0
    discovery_weight: ClassVar[float | None] = None
    supervised: ClassVar[float] = 1.0
    beside: ClassVar[Mapping[str, float]] = MappingProxyType({})
    same_architecture: ClassVar[bool] = False
    rows: ClassVar[frozenset[str]] = ROWS
    self_mix: float = 0.0

    @classmethod
    def from_context(cls, context: TermContext, **options: Any) -> DistillationTerm:
        """Create the term for two given networks; override it if their shapes matter."""
        del context
        return cls(**options)

    @classmethod
    def default_weight(cls, stage: str) -> float:
        """Return the weight in ``stage`` if the configuration does not give one."""
        if stage == "discover" and cls.discovery_weight is not None:
            return cls.discovery_weight
        return cls.weight

    @abstractmethod
    def forward(self, inputs: DistillationInputs) -> Tensor:
        """Return the raw scalar loss, finite and differentiable even without rows."""


TERMS: Registry[type[DistillationTerm]] = Registry(
    "distillation loss", "crkd.losses.distillation", "crkd.losses"
)


def terms_for(stage: str) -> list[str]:
    """Return the names of the terms for ``stage``; plug-ins only after their first look-up."""
    return [name for name, term in TERMS.loaded().items() if stage in term.stages]


def build_term(
    name: str, *, stage: str, context: TermContext, options: Mapping[str, Any] | None = None
) -> DistillationTerm:
    """Create the term called ``name``.

    Args:
        name: registered name.
        stage: stage of the term, one of ``STAGES``.
        context: shapes of the two networks.
        options: keyword options of the term.

    Raises:
        InputError: unknown name or option, an option out of range, a term that does not apply
            in this stage (the message names the alternatives), or a plug-in that is no term.
    """
    term = _checked_term(name)
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
            "options: {on: labeled} (labeled images only) or {on: pseudo} (pseudo-labels)"
        )
    return term.from_context(context._replace(stage=stage), **options)


def _checked_term(name: str) -> type[DistillationTerm]:
    """Return a term; refuse a plug-in that is none, or that declares no stages or needs."""
    term = TERMS.get(name)
    if not (isinstance(term, type) and issubclass(term, DistillationTerm)):
        raise InputError(
            f"distillation loss {name!r} is no subclass of crkd.losses.term.DistillationTerm; "
            "derive it from that class"
        )
    missing = [key for key in ("stages", "needs") if not hasattr(term, key)]
    if missing:
        raise InputError(
            f"distillation loss {name!r} has no class attribute {' and no '.join(missing)}; "
            f"declare it in {term.__name__}, with names out of: "
            f"{', '.join(sorted(STAGES if missing[0] == 'stages' else NEEDS))}"
        )
    return term


def checked_temperature(term: str, temperature: float) -> float:
    """Return a term's temperature.

    Raises:
        InputError: it is not finite and above 0.
    """
    if not 0 < temperature < math.inf:
        raise InputError(f"{term}: temperature is {temperature}; it must be finite and above 0")
    return temperature


def checked_choice(term: str, option: str, value: str, choices: Sequence[str]) -> str:
    """Return the value of a term's option that has a few values.

    Raises:
        InputError: it is none of ``choices``.
    """
    if value not in choices:
        raise InputError(f"{term}: {option} is {value!r}; choose one of: {', '.join(choices)}")
    return value


def option_names(term: type[DistillationTerm]) -> list[str]:
    """Return the options of ``term``: the keyword-only parameters of its constructor."""
    parameters = inspect.signature(term.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
