"""Estimate of the number of classes among unlabeled images, by the network of a run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.class_count.estimate import ClassCount, estimate_class_count
from crkd.core.errors import InputError
from crkd.models.network import Network, freeze
from crkd.runs.folder import RunFolder
from crkd.runs.load import OpenedRun, check_dataset, open_image_run
from crkd.stages.discover.feature_replay import FILE as REPLAY
from crkd.stages.discover.known_filter import KnownFilter, find_known_images
from crkd.stages.discover.precheck import drawn_features
from crkd.stages.run_data import RunData, prepare, prepare_incremental

FEWEST_DRAWN = 20
MOST_DRAWN = 500


@dataclass(frozen=True)
class Estimate:
    """The estimate and its evidence.

    Attributes:
        count: the number of novel classes as a range.
        anchors: where the known classes came from: "images", "statistics" or "none".
        num_unlabeled: images that were counted in.
        notes: remarks about the estimate.
        mixed: the check that set known-looking images aside; None if it was not asked for.
    """

    count: ClassCount
    anchors: str
    num_unlabeled: int
    notes: list[str]
    mixed: KnownFilter | None = None


@dataclass(frozen=True)
class Images:
    """The images of an estimate; None takes those of the run.

    Attributes:
        novel: folder of unlabeled images.
        known: folder of the known classes' images.
        split: of the run's data set.
        root: folder of the data sets.
    """

    novel: str | None = None
    known: str | None = None
    split: str | None = None
    root: str | None = None


def estimate_k(
    parent: str | Path,
    images: Images,
    device: torch.device,
    *,
    max_classes: int | None = None,
    seed: int = 0,
    mixed: bool = False,
) -> Estimate:
    """Estimate the number of novel classes with the features of a finished run.

    Args:
        parent: the run.
        images: what to look at.
        device: where the network computes.
        max_classes: the largest number to look at; None chooses it by the number of images.
        seed: of everything drawn.
        mixed: set images aside first that look like a known class.

    Raises:
        InputError: the run or the images are unusable, or there are too few images.
    """
    opened = open_image_run(parent, device)
    data = images_for(opened, images, device)
    return estimate_num_novel(
        freeze(opened.network), opened.run, data, max_classes=max_classes, seed=seed, mixed=mixed
    )


def images_for(opened: OpenedRun, images: Images, device: torch.device) -> RunData:
    """Return the data of a question to a run: its own, or other images with the same classes."""
    config, info = opened.config, opened.info
    root = config.data.root if images.root is None else images.root
    split = config.split if images.split is None else images.split
    own = images.novel is not None
    known = images.known
    if own and known is None and config.data.known and Path(config.data.known).is_dir():
        known = config.data.known
    settings = dataclasses.replace(config.data, root=root)
    if own:
        settings = dataclasses.replace(settings, known=known, novel=images.novel)
        config = dataclasses.replace(
            config, dataset="folder", data=settings, split=None, class_order_seed=None
        )
    else:
        check_dataset(opened)
        config = dataclasses.replace(config, data=settings, split=split)
    labeled_only = info.num_novel == 0 and not info.classes[-1].was_discovered
    if not own and images.split is None and labeled_only:
        data = prepare(config, device)
    else:
        data = prepare_incremental(
            config,
            device,
            classes=info.classes,
            preprocessing=info.preprocessing,
        )
    if len(data.subsets.unlabeled) == 0:
        raise InputError(
            f"{opened.run.path} is of a split without unlabeled images; name a folder of them "
            "with --novel DIR"
        )
    return data


def estimate_num_novel(
    network: Network,
    parent: RunFolder,
    data: RunData,
    *,
    max_classes: int | None = None,
    seed: int = 0,
    mixed: bool = False,
) -> Estimate:
    """Estimate the number of novel classes among the unlabeled images of ``data``.

    Labels of unlabeled images are not used. Known classes anchor the search: by their labeled
    images, else by features drawn from the statistics that the run keeps, else not at all.

    Args:
        network: of the parent run, frozen; it gives the features.
        parent: the folder, which may hold class statistics.
        data: the images.
        max_classes: largest number to consider.
        seed: of everything drawn.
        mixed: leave images out first that look like a known class.
    """
    rows = data.outputs(network, data.subsets.unlabeled).features
    checked = find_known_images(network, data) if mixed else None
    if checked is not None:
        rows = rows[~checked.check.looks_known]
    known, labels, anchors = _anchors(network, parent, data, len(rows), seed)
    count = estimate_class_count(rows, known, labels, seed=seed, max_classes=max_classes)
    return Estimate(count, anchors, len(rows), notes_of(count, anchors, checked), checked)


def _anchors(
    network: Network, parent: RunFolder, data: RunData, num_unlabeled: int, seed: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None, str]:
    subset = data.subsets.known_train
    if len(subset):
        return data.outputs(network, subset).features, subset.labels, "images"
    if (parent.path / REPLAY).is_file():
        num_known = len(parent.read_info().classes)
        each = min(MOST_DRAWN, max(FEWEST_DRAWN, num_unlabeled // num_known))
        return *drawn_features(parent, each, seed), "statistics"
    return None, None, "none"


def notes_of(
    count: ClassCount,
    anchors: str,
    checked: KnownFilter | None,
    *,
    remedy: str = "give --known DIR",
) -> list[str]:
    """Return remarks about an estimate.

    Args:
        count: the estimate.
        anchors: "images", "statistics" or "none".
        checked: which images were left out before.
        remedy: what to do without enough known classes.
    """
    notes = []
    if checked is not None:
        notes.append(checked.sentence)
    if anchors == "statistics":
        notes.append(
            "images of known classes are missing: their features were drawn from the run's "
            "statistics, as many of each class as an even share of the unlabeled images"
        )
    if count.evidence.votes is None:
        notes.append(
            "fewer than three known classes are at hand to anchor the search: the range rests on "
            f"stability and silhouette alone, which is weak evidence; {remedy}"
        )
    else:
        notes.append("the estimate assumes that novel classes are about as large as known ones")
    if count.at_limit:
        notes.append(
            "the range ends at the largest number that was looked at; --max-k N looks further"
        )
    return notes
