"""Prediction table: the input of the evaluation, one row per image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crkd.core.errors import InputError

PARTS = ("train", "test")
# A matching over more would take minutes and gigabytes; no data set of the field has so many.
MAX_CLASSES = 10_000
# A float32 softmax can exceed one by a rounding error.
CONFIDENCE_SLACK = 1e-5
_BASELINE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a run for its unlabeled training images and its test images.

    Arrays are converted and checked at construction, so every table is valid.

    Attributes:
        id: ``(N,)`` strings, unique within a part.
        part: ``(N,)`` "train" for unlabeled training images, or "test".
        label: ``(N,)`` int32 joint class id, an index into ``class_names``; -1 if unknown.
        known_head: ``(N,)`` int32 in [0, K), argmax of the known logits; -1 if K is 0.
        novel_heads: ``(H, N)`` int32 in [0, M), argmax of the novel logits of each head.
        joint_heads: ``(H, N)`` int32 in [0, K + M), argmax of the concatenated logits.
        confidence: ``(N,)`` float32 in [0, 1], largest joint softmax probability of the chosen
            head; of the known head if there is no novel head.
        class_names: the K known names, then the true novel names; these may be placeholders and
            more or fewer than M.
        num_known: K; 0 if no class was known.
        num_novel: M, the number of novel outputs of a head.
        chosen_head: the head chosen without labels; None without heads.
        baselines: name -> ``(N,)`` int32 cluster id in [0, M) of a clustering of the novel images,
            -1 for images without a cluster.

    Raises:
        InputError: an array has the wrong shape or type, or a value is out of its range.
    """

    id: NDArray[np.object_]
    part: NDArray[np.object_]
    label: NDArray[np.int32]
    known_head: NDArray[np.int32]
    novel_heads: NDArray[np.int32]
    joint_heads: NDArray[np.int32]
    confidence: NDArray[np.float32]
    class_names: Sequence[str]
    num_known: int
    num_novel: int
    chosen_head: int | None
    baselines: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_classes()
        num_images, outputs = len(self.id), self.num_known + self.num_novel
        set_field = object.__setattr__
        for name in ("id", "part"):
            set_field(self, name, _strings(getattr(self, name), name, num_images))
        set_field(self, "label", _ids(self.label, "label", (num_images,), -1, self.num_classes))
        set_field(
            self,
            "known_head",
            _ids(self.known_head, "known_head", (num_images,), *self._known_range()),
        )
        heads = (len(self.novel_heads), num_images)
        set_field(
            self, "novel_heads", _ids(self.novel_heads, "novel_heads", heads, 0, self.num_novel)
        )
        set_field(self, "joint_heads", _ids(self.joint_heads, "joint_heads", heads, 0, outputs))
        set_field(self, "confidence", _confidence(self.confidence, num_images))
        set_field(self, "baselines", self._checked_baselines(num_images))
        self._check_heads()
        self._check_identity()

    @property
    def num_heads(self) -> int:
        """H, the number of novel heads."""
        return len(self.novel_heads)

    @property
    def num_classes(self) -> int:
        """K + the number of true novel classes."""
        return len(self.class_names)

    def of(self, part: str) -> NDArray[np.bool_]:
        """Return the ``(N,)`` mask of the images of ``part``.

        Raises:
            InputError: there is no such part.
        """
        if part not in PARTS:
            raise InputError(f"unknown part {part!r}; choose one of: {', '.join(PARTS)}")
        return np.asarray(self.part == part, dtype=np.bool_)

    def _known_range(self) -> tuple[int, int]:
        """Return the smallest output of the known head, and the number after the largest."""
        return (0, self.num_known) if self.num_known else (-1, 0)

    def _check_classes(self) -> None:
        names = tuple(self.class_names)
        object.__setattr__(self, "class_names", names)
        if not all(isinstance(name, str) and name for name in names):
            raise InputError(
                "class_names holds an entry that is not a name; give non-empty strings"
            )
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"class_names holds {twice!r} twice; give every class its own name")
        if not 0 <= self.num_known <= len(names) <= MAX_CLASSES:
            raise InputError(
                f"num_known is {self.num_known} for {len(names)} class_names; it must be between "
                f"0 and the number of names, which may not exceed {MAX_CLASSES}"
            )
        if not 0 <= self.num_novel <= MAX_CLASSES:
            raise InputError(f"num_novel is {self.num_novel}; it must be in [0, {MAX_CLASSES}]")

    def _checked_baselines(self, num_images: int) -> dict[str, NDArray[np.int32]]:
        for name in self.baselines:
            if not _BASELINE_NAME.fullmatch(name):
                raise InputError(
                    f"baseline name {name!r} is unusable; use lower-case letters, digits and _"
                )
        checked = {
            name: _ids(column, f"baseline_{name}", (num_images,), -1, self.num_novel)
            for name, column in self.baselines.items()
        }
        for name, column in checked.items():
            for part in PARTS:
                covered = column[self.of(part) & (self.label >= self.num_known)] >= 0
                # A baseline on fewer images than the run would be misleading.
                if covered.any() and not covered.all():
                    raise InputError(
                        f"baseline {name} has a cluster for {covered.sum()} of {len(covered)} "
                        f"novel {part} images; cluster all of them or none"
                    )
        return checked

    def _check_heads(self) -> None:
        if self.num_heads and not self.num_novel:
            raise InputError(
                f"there are {self.num_heads} heads but num_novel is 0; give no head or raise it"
            )
        if self.num_heads == 0 and self.chosen_head is not None:
            raise InputError(f"chosen_head is {self.chosen_head} without heads; give None")
        if self.num_heads and self.chosen_head not in range(self.num_heads):
            raise InputError(
                f"chosen_head is {self.chosen_head}; it must be in [0, {self.num_heads})"
            )

    def _check_identity(self) -> None:
        unknown = set(self.part) - set(PARTS)
        if unknown:
            raise InputError(
                f"part holds {min(unknown)!r}; every entry must be one of: {', '.join(PARTS)}"
            )
        for part in PARTS:
            ids = self.id[self.of(part)]
            if len(set(ids)) != len(ids):
                raise InputError(f"id holds an entry twice within part {part!r}; make ids unique")


def _strings(values: ArrayLike, name: str, num_images: int) -> NDArray[np.object_]:
    array = np.asarray(values, dtype=object)
    if array.shape != (num_images,) or not all(isinstance(value, str) for value in array):
        raise InputError(f"{name} must hold one string an image; it has shape {array.shape}")
    return array


def _ids(
    values: ArrayLike, name: str, shape: tuple[int, ...], low: int, high: int
) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}; the table needs {shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name} has dtype {array.dtype}; give integer ids")
    if array.size and (array.min() < low or array.max() >= high):
        wrong = array.min() if array.min() < low else array.max()
        raise InputError(f"{name} holds the id {wrong}; ids must be in [{low}, {high})")
    return array.astype(np.int32)


def _confidence(values: ArrayLike, num_images: int) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.shape != (num_images,) or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"confidence has shape {array.shape} and dtype {array.dtype}; "
            f"give {num_images} floating-point values"
        )
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0 + CONFIDENCE_SLACK):
        raise InputError(f"confidence is in [{array.min()}, {array.max()}]; it must be in [0, 1]")
    confidence: NDArray[np.float32] = np.minimum(array, 1.0).astype(np.float32)
    return confidence
