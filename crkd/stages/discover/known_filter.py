"""Detection of unlabeled images that look like a known class, before a discovery."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.novelty.known_detector import KnownCheck, known_check, known_classes
from crkd.core.errors import InputError
from crkd.core.shuffle import stable_shuffle
from crkd.models.network import Network
from crkd.runs.atomic_files import write_bytes
from crkd.runs.class_info import ClassInfo
from crkd.runs.csv_cells import guarded
from crkd.runs.folder import RunFolder
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.run_data import RunData
from crkd.training.distributed import is_rank_zero

FILE: Final = "looks-known.csv"

DRAWN = 200
"""Features drawn for each known class where only its statistics are left."""


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
        """The decision in one sentence."""
        share = 100 * self.check.false_positive_rate
        text = (
            f"{self.check.count} of {len(self.check.scores)} unlabeled images look like a known "
            f"class (threshold: {share:.0f} % of known {self.calibrated_on} are beyond it)"
        )
        if self.calibrated_on != "held-out images":
            # A network knows the images that it was trained on better than others.
            text += "; without held-out images this is a lower bound"
        return text


def precheck(
    network: Network, parent: RunFolder | None, data: RunData, *, false_positive_rate: float = 0.05
) -> Precheck:
    """Decide which unlabeled images look like a class that the parent run knows.

    The threshold comes from known images that were held out of training, else from half of the
    training images, else from features drawn from the run's statistics.

    Args:
        network: of the parent run, frozen; it gives the features.
        parent: the folder, which may hold class statistics, or None.
        data: the images.
        false_positive_rate: share of known images that are taken for novel ones.

    Raises:
        InputError: neither images nor statistics of the known classes are left.
    """
    subsets = data.subsets
    unlabeled = data.outputs(network, subsets.novel_train).features
    held = None
    if len(subsets.known_train):
        rows, labels = (
            data.outputs(network, subsets.known_train).features,
            subsets.known_train.labels,
        )
        origin = "held-out images" if len(subsets.known_val) else "training images"
        if len(subsets.known_val):
            held = data.outputs(network, subsets.known_val).features
    elif parent is not None and (parent.path / REPLAY).is_file():
        rows, labels = drawn_features(parent, DRAWN, seed=0)
        origin = "statistics"
    else:
        raise InputError(
            "no images and no statistics are left of the known classes; give --known DIR"
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


@dataclass(frozen=True, eq=False)
class SetAside:
    """The n unlabeled images that look like known classes.

    Attributes:
        ids: n names of images.
        classes: the known class that each resembles most, by name.
        scores: ``(n,)``, see :meth:`.known_detector.KnownClassDetector.novelty_score`.
    """

    ids: list[str]
    classes: list[str]
    scores: NDArray[np.float64]

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        return (
            f"{len(self.ids)} unlabeled images that look like known classes were set aside before "
            f"the training, see {FILE}"
        )

    def write(self, run: RunFolder) -> None:
        """Write ``looks-known.csv``: image, known class and score, the most certain first."""
        if not is_rank_zero():
            return
        order = np.argsort(self.scores, kind="stable")
        rows = [
            (guarded(self.ids[n]), guarded(self.classes[n]), f"{self.scores[n]:.4f}") for n in order
        ]
        text = io.StringIO()
        csv.writer(text).writerows([("image", "class_name", "strangeness"), *rows])
        write_bytes(run.path / FILE, text.getvalue().encode())


def set_aside(
    data: RunData, checked: Precheck, teacher: Network, classes: Sequence[ClassInfo]
) -> tuple[RunData, SetAside]:
    """Divide the unlabeled images into those that look known and those to discover in.

    No label is used: the precheck decides, and the teacher predicts the class.

    Args:
        data: the images.
        checked: the decision over each unlabeled image.
        teacher: frozen; its known head predicts all known classes.
        classes: the known classes, in the order of these outputs.

    Returns:
        The data without the images that look known, and these images.

    Raises:
        InputError: all images look known.
    """
    aside, subset = checked.check.looks_known, data.subsets.novel_train
    if aside.all():
        raise InputError(
            f"all {len(subset)} unlabeled images look like known classes, so that nothing is left "
            "to discover in; sort them with predict, or leave out --mixed"
        )
    predicted = data.outputs(teacher, subset).known
    rows = np.flatnonzero(aside)
    found = SetAside(
        [subset.ids[row] for row in rows],
        [classes[predicted[row]].name for row in rows],
        checked.check.scores[rows],
    )
    return data.without_unlabeled(aside), found
