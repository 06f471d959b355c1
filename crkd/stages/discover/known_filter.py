"""Unlabeled images of known classes: found before a discovery on vectors or a count of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.known_or_novel import KnownCheck, Labeled, known_check
from crkd.clustering.novelty.separation import Separation, measure_separation
from crkd.core.errors import InputError
from crkd.models.network import Network
from crkd.runs.atomic_files import write_json
from crkd.runs.folder import RunFolder
from crkd.stages.run_data import RunData

MEASURED: Final = "known-filter.json"
"""Estimated known share, and the quality of the filter on hidden known classes."""
FEWEST = 10
"""Labeled images of a known class, on average, that the filter needs."""


@dataclass(frozen=True)
class KnownFilter:
    """The decision over the unlabeled images, and its measured quality.

    Attributes:
        check: one decision an image, in the order of the unlabeled images.
        separation: quality of such decisions on known classes that were hidden.
    """

    check: KnownCheck
    separation: Separation

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        check, found = self.check, self.separation
        weak = "; they are hard to tell apart by these features" if found.is_weak else ""
        return (
            f"{check.count} of {len(check.scores)} unlabeled images belong to known classes by "
            f"estimate; on hidden known classes the AUROC of this filter is {found.auroc:.2f}, "
            f"{100 * found.error:.0f} % of its decisions are wrong, and its share of known images "
            f"is off by {100 * found.share_error:.0f} points{weak}"
        )

    def write(self, run: RunFolder) -> None:
        """Write the share and the quality to :data:`MEASURED`."""
        values = {"known_share": self.check.share, "hidden_known_classes": vars(self.separation)}
        write_json(run.path / MEASURED, values)


def find_known(
    labeled: Floats,
    labels: NDArray[np.int64],
    unlabeled: Floats,
    *,
    seed: int,
    shaping: Labeled | None = None,
    remedy: str = "give more images",
    otherwise: str = "leave out --mixed",
    weak_is_error: bool = True,
) -> KnownFilter:
    """Decide which unlabeled images belong to a known class.

    Args:
        labeled: ``(n, D)`` features of images of known classes, which did not train the network.
        labels: ``(n,)`` their classes.
        unlabeled: ``(N, D)`` features.
        seed: of clusters and draws.
        shaping: see :func:`.known_or_novel.known_check`.
        remedy: in the error about too few labeled images.
        otherwise: in all errors, the way without a decision.
        weak_is_error: whether decisions that cannot be trusted are refused. A protocol of the field
            needs a score of weak features too.

    Raises:
        InputError: there are too few labeled images, or known and novel images are not separated.
    """
    _check_count(labels, remedy, otherwise)
    classes, numbered = np.unique(labels, return_inverse=True)
    if shaping is not None:
        shaping = shaping[0], _numbered(shaping[1], classes)
    check = known_check(labeled, numbered, unlabeled, seed=seed, shaping=shaping)
    separation = measure_separation(labeled, numbered, check.share, seed=seed, shaping=shaping)
    if separation.is_weak and weak_is_error:
        raise InputError(
            "known and novel images are hard to tell apart by these features: on hidden known "
            f"classes the AUROC is {separation.auroc:.2f}; use a stronger backbone, or {otherwise}"
        )
    return KnownFilter(check, separation)


def _numbered(labels: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return labels as positions in ``classes``; other classes follow, as in their order."""
    order = np.concatenate([classes, np.setdiff1d(labels, classes)]).tolist()
    number = {label: place for place, label in enumerate(order)}
    return np.array([number[label] for label in labels.tolist()], dtype=np.int64)


def find_known_images(network: Network, data: RunData) -> KnownFilter:
    """Decide for the images of a run, by those of the known classes that were held out.

    Features of the training images differ from those of other images of the same classes. So they
    only shape the space.

    Args:
        network: frozen; it gives the features.
        data: the images.

    Raises:
        InputError: see :func:`find_known`.
    """
    subsets = data.subsets
    held, novel, train = subsets.known_val, subsets.unlabeled, subsets.known_train
    remedy = "train stage 1 with a higher data.validation_fraction"
    otherwise = "give the number of novel classes"
    _check_count(held.labels, remedy, otherwise)
    return find_known(
        data.outputs(network, held).features,
        held.labels,
        data.outputs(network, novel).features,
        seed=data.config.seed,
        shaping=(data.outputs(network, train).features, train.labels),
        remedy=remedy,
        otherwise=otherwise,
    )


def _check_count(labels: NDArray[np.int64], remedy: str, otherwise: str) -> None:
    num_known = len(np.unique(labels))
    if len(labels) < FEWEST * max(num_known, 1):
        raise InputError(
            "unlabeled images of known classes are found by comparison with images of these "
            f"classes that did not train the network, at least {FEWEST} a class on average; there "
            f"are {len(labels)} of {num_known} classes; {remedy}, or {otherwise}"
        )
