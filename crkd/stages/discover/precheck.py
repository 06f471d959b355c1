"""Check of an incremental step: whether its images may all belong to known classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.novelty.relative_mahalanobis import fit_relative_mahalanobis
from crkd.clustering.novelty.set_distance import DistanceCheck, distance_check
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.models.network import Network
from crkd.runs.folder import RunFolder
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.run_data import RunData

DRAWN = 200
"""Features drawn for each known class where only its statistics are left."""
BEYOND = 0.05
"""Share of known images beyond the threshold."""


@dataclass(frozen=True)
class Precheck:
    """Distances of the unlabeled images from the known classes.

    Attributes:
        check: one distance an image, in the order of the unlabeled images.
        calibrated_on: "held-out images", "training images" or "statistics".
    """

    check: DistanceCheck
    calibrated_on: str

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return (
            f"{self.check.count} of {len(self.check.scores)} unlabeled images are as near to the "
            f"known classes as {100 - 100 * BEYOND:.0f} % of known {self.calibrated_on}; images of "
            "unseen classes can be as near"
        )


def precheck(network: Network, parent: RunFolder | None, data: RunData) -> Precheck:
    """Measure how near the unlabeled images are to the classes that the parent run knows.

    The threshold comes from known images that were held out of training if these are 20, else from
    half of the training images if these are 40 and two for each class on average, else from
    features drawn from the run's statistics.

    Args:
        network: of the parent run, frozen; it gives the features.
        parent: the folder, which may hold class statistics, or None.
        data: the images.

    Raises:
        InputError: neither enough images nor statistics of the known classes are left.
    """
    subsets = data.subsets
    unlabeled = data.outputs(network, subsets.unlabeled).features
    held = None
    count, classes_left = len(subsets.known_train), len(np.unique(subsets.known_train.labels))
    # One of the held-out images exceeds the threshold.
    held_out = len(subsets.known_val) >= 1 / BEYOND
    # The classes are fitted to one half; of the other, one image or more exceeds the threshold.
    if count and (held_out or count >= max(2 * classes_left, 2 / BEYOND)):
        rows, labels = (
            data.outputs(network, subsets.known_train).features,
            subsets.known_train.labels,
        )
        origin = "held-out images" if held_out else "training images"
        if held_out:
            held = data.outputs(network, subsets.known_val).features
    elif parent is not None and (parent.path / REPLAY).is_file():
        rows, labels = drawn_features(parent, DRAWN, seed=0)
        origin = "statistics"
    else:
        left = counted(count, "image") if count else "no images"
        raise InputError(
            f"{left} and no statistics are left of the known classes; give --known DIR with at "
            f"least {2 / BEYOND:.0f} images, two of each class"
        )
    if held is None:
        order = stable_shuffle(len(rows), 0, stream=0)
        held = rows[order[::2]]
        kept = order[1::2]
        rows, labels = rows[kept], labels[kept]
    numbered = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    classes = fit_relative_mahalanobis(rows, numbered)
    check = distance_check(unlabeled, classes, held, false_positive_rate=BEYOND)
    return Precheck(check, origin)


def drawn_features(
    run: RunFolder, each: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw ``each`` features of every class from the statistics of a run.

    Returns:
        ``(K * each, D)`` features and ``(K * each,)`` classes.
    """
    statistics = load_replay(run.path, len(run.read_info().classes))
    classes = torch.arange(statistics.num_classes).repeat_interleave(each)
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(len(classes), statistics.num_draws, generator=generator)
    return statistics.sample(classes, normals).numpy(), classes.numpy()
