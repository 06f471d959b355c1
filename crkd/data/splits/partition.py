"""Partition of a data set under a split: labeled, unlabeled, validation and test subsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.data.datasets.base import Dataset
from crkd.data.sources.base import ImageSource, Labels
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.long_tail import long_tailed
from crkd.data.splits.members import members_of
from crkd.data.splits.smaller import class_fraction_mask

LABELED_SEED = 0
"""Of the choice of labeled images of known classes."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a source, in the source's order; hashed by identity.

    Attributes:
        source: source of the images.
        indices: ``(n,)`` int64, positions in ``source``, ascending.
        labels: ``(n,)`` int64, joint class ids in ``[0, K)`` if training may see them, else -1.
        ids: n unique names of the images.
    """

    source: ImageSource
    indices: npt.NDArray[np.int64]
    labels: Labels
    ids: list[str]

    def __len__(self) -> int:
        """Return n."""
        return len(self.indices)

    def at(self, rows: npt.NDArray[np.int64]) -> Subset:
        """Return the images at some positions of this subset, ascending."""
        ids = [self.ids[row] for row in rows]
        return Subset(self.source, self.indices[rows], self.labels[rows], ids)


class HiddenLabels:
    """True classes of the unlabeled training images and of the test images.

    Only the evaluation may call these methods. For training and for any choice of a head, an epoch
    or a setting, the images are unlabeled.
    """

    def __init__(self, unlabeled: Labels, test: Labels) -> None:
        self._novel_train = unlabeled
        self._test = test

    def unlabeled(self) -> Labels:
        """Return ``(n,)`` int64 in the order of ``Subsets.unlabeled``.

        The ids are in ``[K, C)``, or in ``[0, C)`` if some images of known classes have no label;
        -1 is an unknown class.
        """
        return self._novel_train.copy()

    def test(self) -> Labels:
        """Return ``(n,)`` int64 in ``[0, C)`` in the order of ``Subsets.test``, or -1."""
        return self._test.copy()


@dataclass(frozen=True)
class Subsets:
    """The four subsets of a run.

    Attributes:
        split: the classes of the joint ids.
        known_train: labeled training images.
        known_val: labeled images held out of the training images; may be empty.
        unlabeled: unlabeled training images.
        test: test images of known and novel classes; may be empty.
        hidden: labels that only the evaluation may see.
    """

    split: ClassSplit
    known_train: Subset
    known_val: Subset
    unlabeled: Subset
    test: Subset
    hidden: HiddenLabels

    def without_labeled(self) -> Subsets:
        """Return the same subsets without the labeled training images."""
        empty = self.known_train.at(np.empty(0, np.int64))
        return dataclasses.replace(self, known_train=empty, known_val=empty)

    def without_unlabeled(self, left_out: npt.NDArray[np.bool_]) -> Subsets:
        """Return the same subsets without some of the unlabeled training images.

        Args:
            left_out: ``(n,)`` in the order of ``unlabeled``.
        """
        kept = np.flatnonzero(~left_out)
        hidden = HiddenLabels(self.hidden.unlabeled()[kept], self.hidden.test())
        return dataclasses.replace(self, unlabeled=self.unlabeled.at(kept), hidden=hidden)


def partition(
    dataset: Dataset,
    split: ClassSplit,
    *,
    validation_fraction: float,
    seed: int,
    allow_empty_known: bool = False,
    imbalance: float = 1.0,
    labeled_fraction: float = 1.0,
    subset: float = 1.0,
) -> Subsets:
    """Partition a data set into labeled, unlabeled and evaluation images.

    Images of classes that the split leaves out are dropped. Training images without a label (-1)
    count as unlabeled images. Test images without a label are kept with the hidden label -1.
    A ``labeled_fraction`` below 1 is the setting of generalized category discovery (Vaze et al.,
    CVPR 2022): the other images of known classes are unlabeled, and their labels are hidden.

    Args:
        dataset: images and labels; its ``hidden`` images are unlabeled.
        split: a split of this data set; call ``split.check(dataset)`` before.
        validation_fraction: fraction of every known class that is held out, in [0, 1). Above 0, at
            least one image of each class with two or more is held out, and never the last.
        seed: seed of the choice of held-out images; novel images and labels do not affect it.
        allow_empty_known: whether known classes may have no training image, because an earlier run
            learned them.
        imbalance: above 1, the novel training images are reduced to a long tail: the largest class
            has this many times the images of the smallest. Training does not know the sizes.
        labeled_fraction: fraction of the training images of each known class that have labels, in
            (0, 1]; at least one image. The choice does not depend on ``seed``, so that a stage 1 of
            any seed has seen the same labels.
        subset: fraction of the images of each class that are used at all, training and test images
            alike, in (0, 1]; at least one image. The choice does not depend on ``seed``.

    Raises:
        InputError: a fraction is out of range, or a known class has no training image.
    """
    _check_fractions(labeled_fraction, validation_fraction)
    labels, num_known = dataset.train.labels, len(split.known)
    used = class_fraction_mask(labels, subset)
    joint = np.where(used, split.joint_ids(labels), -1)
    of_known = (joint >= 0) & (joint < num_known)
    shown = of_known if dataset.hidden is None else of_known & ~dataset.hidden
    if not allow_empty_known:
        _check_filled(joint[shown], split, dataset.name)
    # Choices of labeled and of held-out images must not depend on a hidden label.
    without = _without_label(np.where(shown, joint, -1), num_known, labeled_fraction)
    labeled = shown & ~without
    held_out = _held_out(np.where(labeled, joint, -1), num_known, validation_fraction, seed)
    novel = np.flatnonzero(used & ((joint >= num_known) | (labels < 0)))
    if imbalance > 1:
        novel = novel[long_tailed(joint[novel], imbalance, seed)]
    unlabeled = np.sort(np.concatenate([novel, np.flatnonzero(of_known & ~labeled)]))
    test, hidden_test = _test_part(dataset, split, subset)
    return Subsets(
        split=split,
        known_train=_part(dataset.train, np.flatnonzero(labeled & ~held_out), joint),
        known_val=_part(dataset.train, np.flatnonzero(held_out), joint),
        unlabeled=_part(dataset.train, unlabeled, None),
        test=test,
        hidden=HiddenLabels(joint[unlabeled], hidden_test),
    )


def joined(parts: Sequence[Subset]) -> Subset:
    """Return several subsets of one source as one, in order.

    Raises:
        ValueError: the subsets have different sources.
    """
    if any(part.source is not parts[0].source for part in parts):
        raise ValueError("subsets of different sources cannot be joined")
    return Subset(
        parts[0].source,
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.labels for part in parts]),
        [name for part in parts for name in part.ids],
    )


def _check_fractions(labeled: float, validation: float) -> None:
    if not 0.0 < labeled <= 1.0:
        raise InputError(
            f"labeled_fraction {labeled} is not in (0, 1]; 0.5 is usual for generalized category "
            "discovery"
        )
    if not 0.0 <= validation < 1.0:
        raise InputError(f"validation_fraction {validation} is not in [0, 1); 0.1 is usual")


def _check_filled(known: Labels, split: ClassSplit, dataset: str) -> None:
    """Refuse a known class without a training image; ``known`` are joint ids of these images."""
    empty = np.flatnonzero(np.bincount(known, minlength=len(split.known)) == 0)
    if len(empty):
        raise InputError(
            f"the known class {split.joint_names[empty[0]]!r} of data set {dataset!r} has no "
            "training image; leave it out of the split or add images"
        )


def _test_part(dataset: Dataset, split: ClassSplit, subset: float) -> tuple[Subset, Labels]:
    """Return the test images of the classes of a split and their joint ids, -1 for no label."""
    if dataset.test is None:
        return _part(dataset.train, np.empty(0, np.int64), None), np.empty(0, np.int64)
    labels = dataset.test.labels
    counted = (split.joint_ids(labels) >= 0) | (labels < 0)
    rows = np.flatnonzero(counted & class_fraction_mask(labels, subset))
    return _part(dataset.test, rows, None), split.joint_ids(labels[rows])


def _part(source: ImageSource, rows: npt.NDArray[np.int64], joint: Labels | None) -> Subset:
    labels = np.full(len(rows), -1, dtype=np.int64) if joint is None else joint[rows]
    labels.flags.writeable = False
    return Subset(source, rows, labels, [source.ids[row] for row in rows])


def _without_label(joint: Labels, num_known: int, fraction: float) -> npt.NDArray[np.bool_]:
    """Return which training images of known classes have no label, ``(N,)`` bool."""
    without = np.zeros(len(joint), dtype=bool)
    if fraction == 1.0:
        return without
    for known, members in enumerate(members_of(joint, np.arange(num_known))):
        count = max(1, round(fraction * len(members)))
        order = stable_shuffle(len(members), LABELED_SEED, stream=known)
        without[members[order[count:]]] = True
    return without


def _held_out(joint: Labels, num_known: int, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Return which training images are held out, ``(N,)`` bool, stratified by known class."""
    held_out = np.zeros(len(joint), dtype=bool)
    if fraction == 0.0:
        return held_out
    for known, members in enumerate(members_of(joint, np.arange(num_known))):
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        order = stable_shuffle(len(members), seed, stream=known)
        held_out[members[order[:count]]] = True
    return held_out
