"""Before a discovery: how many of the unlabeled images look like a known class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.novelty.known_detector import KnownCheck, known_check, known_classes
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.runs.load import OpenedRun
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.forward import forward_subset
from crkd.stages.run_data import RunData

DRAWN = 200
"""Features of each known class where only its statistics are left."""


@dataclass(frozen=True)
class Precheck:
    """The decision over the unlabeled images.

    Attributes:
        check: one decision an image, in the order of the unlabeled images.
        calibrated_on: "held-out images", "training images" or "statistics".
    """

    check: KnownCheck
    calibrated_on: str

    @property
    def sentence(self) -> str:
        """What to tell a person."""
        share = 100 * self.check.false_positive_rate
        text = (
            f"{self.check.count} of {len(self.check.scores)} unlabeled images look like a known "
            f"class (threshold: {share:.0f} % of known {self.calibrated_on} lie beyond it)"
        )
        if self.calibrated_on != "held-out images":
            # A network knows the images that it was trained on better than others.
            text += "; without held-out images this is a lower bound"
        return text


def precheck(
    opened: OpenedRun,
    data: RunData,
    config: Config,
    device: torch.device,
    *,
    unlabeled: NDArray[np.float32] | None = None,
    false_positive_rate: float = 0.05,
) -> Precheck:
    """Decide which unlabeled images look like a class that the run knows.

    The threshold comes from known images that were held out of training, else from half of the
    training images, else from features drawn from the run's statistics.

    Args:
        opened: the run whose network gives the features.
        data: the images.
        config: how images are read and batched.
        device: where the network computes.
        unlabeled: ``(N, D)`` features of the unlabeled images, if they are at hand.
        false_positive_rate: share of known images that are taken for novel ones.

    Raises:
        InputError: neither images nor statistics of the known classes are left.
    """

    def features(part_name: str) -> NDArray[np.float32]:
        part = getattr(data.subsets, part_name)
        return forward_subset(opened.network, part, data, config, device).features

    if unlabeled is None:
        unlabeled = features("novel_train")
    if len(data.subsets.known_train):
        rows, labels = features("known_train"), data.subsets.known_train.labels
        origin = "held-out images" if len(data.subsets.known_val) else "training images"
        held = features("known_val") if len(data.subsets.known_val) else None
    elif (opened.run.path / REPLAY).is_file():
        rows, labels = remembered(opened, DRAWN, seed=0)
        origin, held = "statistics", None
    else:
        raise InputError(
            f"nothing is left of the classes that {opened.run.path} knows to compare with; give "
            "--known DIR"
        )
    if held is None:
        order = stable_shuffle(len(rows), 0, stream=0)
        held = rows[order[::2]]
        kept = order[1::2]
        rows, labels = rows[kept], labels[kept]
    numbered = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    check = known_check(
        unlabeled, known_classes(rows, numbered), held, false_positive_rate=false_positive_rate
    )
    return Precheck(check, origin)


def remembered(
    opened: OpenedRun, each: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw ``each`` features of every class from a run's statistics.

    Returns:
        ``(K * each, D)`` features and ``(K * each,)`` classes.
    """
    statistics = load_replay(opened.run.path, len(opened.info.classes))
    classes = torch.arange(statistics.num_classes).repeat_interleave(each)
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(len(classes), statistics.num_draws, generator=generator)
    return statistics.sample(classes, normals).numpy(), classes.numpy()
