"""Outputs of a finished discovery for its unlabeled images, for a review."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.data.splits.partition import Subset
from crkd.data.vectors.row_file import RowWriter
from crkd.evaluation.calibration import probabilities
from crkd.inference.rows import HeadAgreement, class_labels
from crkd.models.network import freeze
from crkd.review.shown_digest import shown_digest
from crkd.runs.disputed import disputed_classes
from crkd.runs.load import OpenedRun, check_dataset, open_run
from crkd.runs.reviewed_labels import ReviewedLabel, read_labels
from crkd.stages.forward import Outputs
from crkd.stages.run_data import RunData, prepare_incremental
from crkd.stages.vectors.data import VectorData
from crkd.stages.vectors.run import data_of_run

BLOCK: Final = 4096
"""Images whose logits and probabilities are copied at once."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run and its outputs for its N unlabeled training images.

    Attributes:
        opened: the run.
        data: its images.
        head: the chosen novel head.
        outputs: outputs of the network.
        projected: ``(N, P)`` float32 unit-length projections, which the chosen head compares with
            its prototypes; the features at unit length where one head gives all classes. Those of
            very many vectors stay in a file.
        agreement: ``(N,)`` fraction of the other heads with the same prediction; None without
            others.
    """

    opened: OpenedRun
    data: RunData
    head: int
    outputs: Outputs
    projected: NDArray[np.float32]
    agreement: NDArray[np.float64] | None

    @property
    def images(self) -> Subset:
        """The N unlabeled training images."""
        return self.data.subsets.unlabeled

    @property
    def num_known(self) -> int:
        """K."""
        return self.opened.info.num_known

    @property
    def names(self) -> list[str]:
        """Names of all classes by id, all different."""
        return class_labels(self.opened.info.classes)

    @cached_property
    def assigned(self) -> NDArray[np.int64]:
        """Class id of every image, ``(N,)``: its best novel class.

        With ``--mixed`` it is the predicted class, as by ``predict``: the images may be of known
        classes. In a reviewed run, an image keeps the class of the review.
        """
        assigned = self._predicted()
        for row, image in enumerate(self.images.ids):
            label = self.reviewed.get(image)
            if label is not None and label.class_id is not None:
                assigned[row] = label.class_id
        return assigned

    @cached_property
    def reviewed(self) -> dict[str, ReviewedLabel]:
        """Class of each image after an earlier review, by image id; empty without one."""
        return read_labels(self.opened.run)

    @cached_property
    def shown_sha256(self) -> str:
        """Digest of the classes, the images and their reviewed classes, as the page shows them."""
        return shown_digest(self.names, self.images.ids, self.reviewed)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """All rows in the order of the page, ``(N,)``: by class, the most certain first."""
        rows: NDArray[np.int64] = np.lexsort((-self.confidence, self.assigned))
        return rows

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield some rows and their joint logits, again and again: a copy of all is large."""
        for start in range(0, len(self.images), BLOCK):
            rows = slice(start, start + BLOCK)
            yield rows, self.outputs.joint_logits(self.head, rows)

    def _predicted(self) -> NDArray[np.int64]:
        if self.opened.config.mixed:
            best = np.empty(len(self.images), np.int64)
            for rows, logits in self._blocks():
                best[rows] = logits.argmax(axis=1)
            return best
        novel: NDArray[np.int64] = self.num_known + self.outputs.novel[self.head]
        return novel

    @cached_property
    def disputed(self) -> NDArray[np.int64]:
        """Known class that ``predict`` gives to an image of a novel class, ``(N,)``; -1 for none.

        There is none with ``--mixed``, and none where a person chose the class.
        """
        if self.opened.config.mixed:
            return np.full(len(self.images), -1)
        found = np.empty(len(self.images), np.int64)
        for rows, logits in self._blocks():
            found[rows] = disputed_classes(logits, self.num_known)
        for row, image in enumerate(self.images.ids):
            label = self.reviewed.get(image)
            if label is not None and label.by_person:
                found[row] = -1
        found[self.assigned < self.num_known] = -1
        return found

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the class ``assigned`` among all classes, ``(N,)``."""
        chosen = np.empty(len(self.images))
        for rows, logits in self._blocks():
            shares = probabilities(logits)
            chosen[rows] = shares[np.arange(len(shares)), self.assigned[rows]]
        return chosen


def _data_of(opened: OpenedRun, device: torch.device) -> RunData:
    """Return the images of a run, or its vectors, whose source reads the images behind them."""
    info = opened.info
    if opened.architecture.on_vectors:
        if info.embedding is None:
            raise InputError(
                f"{opened.run.path} is a discovery on vectors of unknown origin, which have no "
                "images to review; name a run on images"
            )
        return data_of_run(opened.run)
    check_dataset(opened)
    return prepare_incremental(
        opened.config,
        device,
        classes=info.classes[: info.num_known],
        preprocessing=info.preprocessing,
    )


def _blocks(outputs: Outputs, device: torch.device) -> Iterator[Tensor]:
    """Yield the features on a device, in pieces: those of many vectors are in a file."""
    for start in range(0, len(outputs.features), BLOCK):
        yield torch.from_numpy(outputs.features[start : start + BLOCK]).to(device)


def _collected(blocks: Iterator[Tensor], outputs: Outputs, data: RunData) -> NDArray[np.float32]:
    """Return the rows of all blocks; in a file where the features are in one."""
    if not isinstance(data, VectorData) or not data.in_pieces(data.subsets.unlabeled):
        return torch.cat(list(blocks)).numpy()
    first = next(blocks)
    writer = RowWriter(data.file, 4 * len(outputs.features) * first.shape[1])
    for block in itertools.chain([first], blocks):
        writer.add(block.numpy())
    return cast("NDArray[np.float32]", writer.finished())


def gather(path: str | Path, device: torch.device) -> Evidence:
    """Open a finished discovery, read its images again and run its network on them.

    Raises:
        InputError: the run has no novel classes or no images, or the images are not found.
    """
    opened = open_run(path, device)
    info, heads = opened.info, opened.network.novel_heads
    if info.chosen_head is None:
        raise InputError(
            f"{path} has no novel heads whose classes could be reviewed; name a run of discover"
        )
    data = _data_of(opened, device)
    outputs = data.outputs(freeze(opened.network), data.subsets.unlabeled)
    with torch.inference_mode():
        chosen = None if heads is None else heads.single(info.chosen_head)
        blocks = (
            F.normalize(block if chosen is None else chosen.projections(block)[0], dim=-1).cpu()
            for block in _blocks(outputs, device)
        )
        projected = _collected(blocks, outputs, data)
    agreement = HeadAgreement.of(opened)
    shares = None if agreement is None else agreement.shares(outputs)
    return Evidence(opened, data, info.chosen_head, outputs, projected, shares)
