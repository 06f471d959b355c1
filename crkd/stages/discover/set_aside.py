"""Unlabeled images that look like known classes, set aside before a discovery begins."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.models.network import Network
from crkd.runs.atomic_files import write_bytes
from crkd.runs.csv_cells import guarded
from crkd.runs.folder import RunFolder
from crkd.stages.discover.known_filter import Precheck
from crkd.stages.forward import forward_subset
from crkd.stages.run_data import RunData
from crkd.training.distributed import is_rank_zero

FILE: Final = "looks-known.csv"


@dataclass(frozen=True, eq=False)
class SetAside:
    """The n images that were set aside.

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
        """What to tell a person."""
        return (
            f"{len(self.ids)} unlabeled images that look like known classes were set aside before "
            f"the training, see {FILE}"
        )

    def write(self, run: RunFolder) -> None:
        """Write ``looks-known.csv``: every image, its known class and score, surest first."""
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
    data: RunData,
    checked: Precheck,
    teacher: Network,
    classes: Sequence[Mapping[str, Any]],
    config: Config,
    device: torch.device,
) -> tuple[RunData, SetAside]:
    """Divide the unlabeled images into those that look known and those to discover in.

    No label has a part in it: the decision is that of the check, the class that of the teacher.

    Args:
        data: the images.
        checked: the decision over each unlabeled image.
        teacher: its known head answers all known classes.
        classes: the known classes, in the order of these answers.
        config: how images are read and batched.
        device: where the network computes.

    Returns:
        The data without the images that look known, and these images.

    Raises:
        InputError: all images look known.
    """
    aside, part = checked.check.looks_known, data.subsets.novel_train
    if aside.all():
        raise InputError(
            f"all {len(part)} unlabeled images look like known classes, so that nothing is left "
            "to discover in; sort them with predict, or leave out --mixed"
        )
    answers = forward_subset(teacher, part, data, config, device).known
    rows = np.flatnonzero(aside)
    found = SetAside(
        [part.ids[row] for row in rows],
        [str(classes[answers[row]]["name"]) for row in rows],
        checked.check.scores[rows],
    )
    kept = dataclasses.replace(data, subsets=data.subsets.without_unlabeled(aside), _stores={})
    return kept, found
