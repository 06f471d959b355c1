"""The mixed setting: unlabeled images may belong to known classes.

Pseudo-labels are then over all K + M classes of each head, and the assignment needs a size of each
class. No hidden label is used for it, see :func:`class_shares`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.novelty.known_or_novel import known_check
from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.models.network import Network
from crkd.runs.folder import RunFolder
from crkd.stages.discover.precheck import DRAWN, drawn_features
from crkd.stages.run_data import RunData


def class_shares(
    labeled: NDArray[np.int64], num_unlabeled: int, num_novel: int, labeled_fraction: float
) -> NDArray[np.float64]:
    """Return the expected share of each class among the unlabeled images.

    A known class with n labeled images has ``n (1 - f) / f`` unlabeled ones if f is the fraction of
    its images that have labels. All other classes share the rest equally: the novel ones, known
    ones without labeled images, and all known ones if f is 1, because the number of labeled images
    then says nothing about the unlabeled ones.

    Args:
        labeled: ``(K,)`` number of labeled images of each known class.
        num_unlabeled: N.
        num_novel: M, at least 1.
        labeled_fraction: f, in (0, 1], as configured.

    Returns:
        ``(K + M,)``, sums to one; every class that shares the rest has at least one image.

    >>> class_shares(np.array([250, 250]), 1500, 2, 0.5).tolist()
    [0.16666666666666666, 0.16666666666666666, 0.3333333333333333, 0.3333333333333333]
    """
    sizes = np.zeros(len(labeled) + num_novel)
    sizes[: len(labeled)] = labeled * (1.0 - labeled_fraction) / labeled_fraction
    derived = sizes > 0
    others = np.count_nonzero(~derived)
    sizes[~derived] = max(1.0, (num_unlabeled - sizes.sum()) / others)
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares


def two_shares(
    known_share: float, num_unlabeled: int, num_known: int, num_novel: int
) -> NDArray[np.float64]:
    """Return class shares of which only the sum over the known classes is known.

    Args:
        known_share: of the unlabeled images, in [0, 1].
        num_unlabeled: N.
        num_known: K, at least 1.
        num_novel: M, at least 1.

    Returns:
        ``(K + M,)``, equal within each kind; sums to one, and every class has at least one image.

    >>> two_shares(0.2, 100, 2, 1).tolist()
    [0.1, 0.1, 0.8]
    """
    sizes = np.repeat(
        [known_share / num_known, (1 - known_share) / num_novel], [num_known, num_novel]
    )
    sizes = np.maximum(sizes * num_unlabeled, 1.0)
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares


def drawn_known_share(parent: RunFolder, unlabeled: Floats, *, seed: int) -> float:
    """Return the share of known classes among unlabeled images where no known image is left.

    Features that are drawn from the statistics of the known classes take the place of labeled ones.

    Args:
        parent: a run with class statistics.
        unlabeled: ``(N, D)`` features by the network of that run.
        seed: of clusters and folds.

    Raises:
        InputError: the run has no statistics.
    """
    drawn, classes = drawn_features(parent, DRAWN, seed=0)
    return known_check(drawn, classes, unlabeled, seed=seed).share


def shares_sentence(
    shares: NDArray[np.float64], num_known: int, labeled_fraction: float, *, drawn: bool
) -> str:
    """Return the expected share of known classes in one sentence.

    Args:
        shares: ``(K + M,)``.
        num_known: K.
        labeled_fraction: as configured.
        drawn: whether the share is that of :func:`drawn_known_share`.
    """
    origin = f"as data.labeled_fraction is {labeled_fraction:g}"
    if drawn:
        origin = "as features drawn from the statistics of these classes suggest"
    elif labeled_fraction == 1:
        origin = "as no class is known to be larger than another"
    return (
        "unlabeled images may be of known classes: the pseudo-labels are over all "
        f"{len(shares)} classes, with {100 * shares[:num_known].sum():.0f} % of the images in "
        f"known classes, {origin}"
    )


def unlabeled_shares(
    teacher: Network, parent: RunFolder, data: RunData, num_novel: int
) -> tuple[NDArray[np.float64], str]:
    """Return the expected share of each class among the unlabeled images, and a sentence on it.

    Args:
        teacher: frozen network of the parent, which gives features if there is no labeled image.
        parent: its run folder.
        data: images of the new run.
        num_novel: M.

    Returns:
        ``(K + M,)`` shares that sum to one, and a sentence on their origin.

    Raises:
        InputError: there is no labeled image and the parent keeps no statistics of its classes.
    """
    subsets, num_known = data.subsets, data.num_known
    labels = np.concatenate([subsets.known_train.labels, subsets.known_val.labels])
    fraction, count = data.config.data.labeled_fraction, len(subsets.unlabeled)
    if len(labels):
        counts = np.bincount(labels, minlength=num_known)
        shares = class_shares(counts, count, num_novel, fraction)
    else:
        features = data.outputs(teacher, subsets.unlabeled).features
        known_share = drawn_known_share(parent, features, seed=data.config.seed)
        shares = two_shares(known_share, count, num_known, num_novel)
    return shares, shares_sentence(shares, num_known, fraction, drawn=len(labels) == 0)


def check_mixed(config: Config, known_head: str, num_without_images: int) -> None:
    """Refuse settings that assume that every unlabeled image is of a novel class.

    Args:
        config: of the run.
        known_head: of the parent run.
        num_without_images: number of known classes without labeled images.

    Raises:
        InputError: a setting does not apply.
    """
    settings = config.discover
    if settings.method == "frost":
        raise InputError(
            "discover.method 'frost' takes every unlabeled image for one of a novel class, but "
            f"{_reason(config)}; use the method 'swapped' or 'simgcd'"
        )
    if settings.method != "swapped":
        return
    if known_head != "prototype":
        raise InputError(
            f"model.known_head is {known_head!r}, whose outputs are not cosines and cannot be "
            f"assigned together with those of novel classes, but {_reason(config)}; train stage 1 "
            "with model.known_head=prototype"
        )
    if settings.assignment.queue:
        raise InputError(
            "discover.assignment.queue keeps features of the novel heads alone, but "
            f"{_reason(config)}; set it to 0 and raise discover.batch_size"
        )
    if settings.prototypes == "kmeans" and num_without_images:
        lacking = counted(num_without_images, "known class has", "known classes have")
        raise InputError(
            "discover.prototypes 'kmeans' needs labeled images of every known class to leave out "
            f"their clusters, and {lacking} none; set it to 'random'"
        )


def check_weights(config: Config, num_known: int, num_novel: int) -> None:
    """Refuse a given class prior that leaves out the known classes.

    Raises:
        InputError: there is not one weight for each of the K + M classes.
    """
    given, method = config.discover.assignment, config.discover.method
    if (
        method == "swapped"
        and given.prior == "given"
        and len(given.prior_weights) != num_known + num_novel
    ):
        raise InputError(
            f"discover.assignment.prior_weights has {len(given.prior_weights)} numbers, but "
            f"{_reason(config)}; give one for each of the {num_known} known and {num_novel} novel "
            "classes"
        )


def _reason(config: Config) -> str:
    if config.discover.mixed:
        return "with --mixed they may be of known classes"
    return (
        f"with data.labeled_fraction {config.data.labeled_fraction:g} unlabeled images are of "
        "known classes too"
    )
