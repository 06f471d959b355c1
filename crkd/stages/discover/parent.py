"""The parent run of a discovery: its network, its classes and their statistics."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.network import Network, absorbed, freeze
from crkd.runs.class_info import ClassInfo
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.load import OpenedRun, open_image_run
from crkd.runs.plugins import check_installed
from crkd.runs.provenance import parent_entry, seed_note
from crkd.runs.search import SHARED_PARTS, is_stage1
from crkd.stages.class_memory import KnownStatistics, true_classes
from crkd.stages.discover.class_count import estimate_num_novel
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.discover.mixed import check_mixed, check_weights, unlabeled_shares
from crkd.stages.discover.precheck import Precheck, precheck
from crkd.stages.load_images import check_same_subset
from crkd.stages.run_data import (
    RunData,
    check_num_novel,
    num_novel_classes,
    prepare,
    prepare_incremental,
)
from crkd.training.plugins import asked_for

ONLY_KNOWN = 0.9
"""Least share of known-looking images at which a folder may hold no new class."""
MAX_KNOWN_AUROC = 0.55
"""Largest AUROC of the novelty score, unlabeled against known images, at which a folder may hold
known classes only. With a weak network, novel images look known one by one, but have higher novelty
scores as a whole."""


@dataclass(frozen=True)
class ParentRun:
    """An earlier run as the teacher of a new one.

    Attributes:
        parent: the run.
        data: images of the new run.
        teacher: frozen; its known head predicts all K classes that the parent knows.
        architecture: of the student.
        classes: the new label space; known classes keep their ids and names.
        known: statistics of the K classes' features, and the classes without images.
        shares: ``(K + M,)`` expected share of each class among the unlabeled images; None where
            all of them are of novel classes.
        notes: warnings and remarks about the new run.
    """

    parent: OpenedRun
    data: RunData
    teacher: Network
    architecture: Architecture
    classes: list[ClassInfo]
    known: KnownStatistics
    shares: NDArray[np.float64] | None
    notes: list[str]

    @property
    def num_classes(self) -> int:
        """Number of classes that unlabeled images may be of: M, or K + M in the mixed setting."""
        return self.architecture.num_novel if self.shares is None else len(self.shares)

    def true_classes(self) -> NDArray[np.int64]:
        """Return the true class of every known output, for the evaluator alone."""
        return true_classes(self.parent.run, self.architecture.num_known)

    def origin(self) -> dict[str, Any]:
        """Return what ``run.json`` says of the parent."""
        return parent_entry(self.parent.run.path, self.parent.info)


def open_parent(
    config: Config,
    parent: str | Path,
    device: torch.device,
    *,
    download: bool = False,
    num_novel: int | None = None,
) -> ParentRun:
    """Open the parent run of a discovery and the images of the new run.

    A stage-1 run with its labeled images at hand is the published setting. Everything else is an
    incremental step: the parent has discovered classes, or its old images are missing.

    Args:
        config: of the new run.
        parent: the run folder of the parent.
        device: where its network computes.
        download: fetch the data set if it is missing and can be fetched.
        num_novel: M of a run that is resumed. None counts or estimates it.

    Raises:
        InputError: the run does not fit the images, has no network or is not finished; or there
            is nothing to discover in; or a plug-in that the run was made with is missing.
    """
    run = RunFolder.open(parent)
    info = run.read_info()
    check_installed(run.path, info, asked_for(config, "discovered", None))
    incremental = _is_incremental(config, info)
    if incremental:
        opened, data = _opened_without_known_images(run, info, config, device, download=download)
    else:
        data = prepare(config, device, download=download)
        opened = stage1_of(run, config, data, device)
    if len(data.subsets.unlabeled) == 0:
        raise InputError(
            f"split {data.split.name!r} leaves no unlabeled image to discover in; "
            "choose a split with novel classes, or give --novel DIR"
        )
    known = opened.architecture.absorbed()
    counts = np.bincount(data.subsets.known_train.labels, minlength=len(info.classes))
    without_images = tuple(np.flatnonzero(counts == 0).tolist())
    _check_method(config, known, without_images, run.path)
    teacher = freeze(absorbed(opened.network, info.chosen_head))
    notes = []
    if config.mixed:
        check_mixed(config, known.known_head, len(without_images))
    elif incremental:
        checked = precheck(teacher, run, data)
        _check_new(checked, opened, data)
        notes.append(checked.sentence)
    origin = []
    if num_novel is None:
        num_novel, sentence = _counted(teacher, run, data)
        origin.append(sentence)
    check_num_novel(num_novel, len(data.subsets.unlabeled), "unlabeled images")
    shares = None
    if config.mixed:
        check_weights(config, len(info.classes), num_novel)
        shares, note = unlabeled_shares(teacher, run, data, num_novel)
        notes.append(note)
    return ParentRun(
        opened,
        data,
        teacher,
        _student_shape(known, config, num_novel),
        next_classes(info.classes, num_novel),
        KnownStatistics(
            load_replay(run.path, len(info.classes)) if without_images else None, without_images
        ),
        shares,
        [*data.notes, *origin, *seed_note(info, config.seed), *notes],
    )


def _is_incremental(config: Config, info: RunInfo) -> bool:
    """Return whether the parent has discovered classes, or its labeled images are missing."""
    own_without_known = config.dataset == "folder" and config.data.known is None
    return (
        own_without_known
        or config.discover.labeled is False
        or info.num_novel > 0
        or info.classes[-1].was_discovered
    )


def _opened_without_known_images(
    run: RunFolder, info: RunInfo, config: Config, device: torch.device, *, download: bool
) -> tuple[OpenedRun, RunData]:
    """Open the parent of an incremental step, and the images of the new run."""
    opened = open_image_run(run.path, device)
    inner = ("hidden", "projection") if opened.architecture.absorbed().groups else ()
    _check_model(opened, config, ("known_head", "temperature", *inner))
    check_same_subset(run.path, info, config)
    data = prepare_incremental(
        config,
        device,
        classes=info.classes,
        preprocessing=info.preprocessing,
        download=download,
    )
    return opened, data


def _counted(teacher: Network, parent: RunFolder, data: RunData) -> tuple[int, str]:
    """Return M and a sentence on its origin."""
    config = data.config
    if config.discover.num_novel != "auto":
        return num_novel_classes(data)
    count = estimate_num_novel(teacher, parent, data, seed=config.seed, mixed=config.mixed).count
    return count.estimate, count.sentence


def _check_new(checked: Precheck, opened: OpenedRun, data: RunData) -> None:
    """Refuse images that nearly all look known, one by one and as a whole.

    A discovery would only divide known classes. By the split of a named data set, no image is of a
    class of its stage 1, whatever a weak network sees.
    """
    config, check = data.config, checked.check
    known = data.split_entry()["known"]
    if config.dataset != "folder" and is_stage1(opened.info, config.dataset, known):
        return
    found, total = check.count, len(check.scores)
    alike = found >= ONLY_KNOWN * total and check.auroc < MAX_KNOWN_AUROC + 2 * check.auroc_std
    if config.discover.precheck and alike:
        raise InputError(
            f"{found} of {total} unlabeled images look like classes that {opened.run.path} knows, "
            "so that no class is added; sort them with predict, or continue with "
            "--set discover.precheck=false"
        )


def _check_method(
    config: Config, known: Architecture, without_images: tuple[int, ...], parent: Path
) -> None:
    """Refuse a method with one joint head where it does not apply."""
    method = config.discover.method
    if method == "swapped":
        return
    if known.groups:
        raise InputError(
            f"--from {parent} has separate heads for its discovered classes, and the method "
            f"{method!r} extends one joint head; start from a run of pretrain or of {method!r}"
        )
    if config.discover.stored_epochs:
        raise InputError(
            f"discover.stored_epochs does not apply to the method {method!r}, which uses no "
            "outputs of a teacher; set it to 0"
        )
    if method == "simgcd" and known.known_head != "prototype":
        raise InputError(
            f"the method 'simgcd' compares cosines, but --from {parent} has the known_head "
            f"{known.known_head!r}; train stage 1 with model.known_head=prototype"
        )
    if method == "simgcd" and without_images:
        raise InputError(
            "the method 'simgcd' needs labeled images of every known class, and "
            f"{counted(len(without_images), 'known class has', 'known classes have')} none; add "
            "their images, or use --set discover.method=swapped"
        )


def _student_shape(known: Architecture, config: Config, num_novel: int) -> Architecture:
    """Return the architecture of the student: the parent's with novel classes."""
    if config.discover.method != "swapped":
        return dataclasses.replace(known, num_novel=num_novel, num_heads=1, joint=True)
    return dataclasses.replace(
        known,
        num_novel=num_novel,
        num_heads=config.model.num_heads,
        hidden=config.model.hidden,
        projection=config.model.projection,
        overclustering=config.model.overclustering,
    )


def next_classes(classes: list[ClassInfo], num_novel: int) -> list[ClassInfo]:
    """Return the label space after ``num_novel`` more classes are discovered.

    Ids and names never change. A novel class has a number in place of a name.

    >>> [entry.name for entry in next_classes([ClassInfo(0, "cat", "known")], 2)]
    ['cat', 'novel-0', 'novel-1']
    """
    taken = {entry.name for entry in classes}
    found = sum(entry.was_discovered for entry in classes)
    names = (name for n in itertools.count(found) if (name := f"novel-{n}") not in taken)
    step = 1 + max((entry.step or 0 for entry in classes), default=0)
    known = [entry.as_known() for entry in classes]
    novel = [ClassInfo(len(known) + m, next(names), "novel", step) for m in range(num_novel)]
    return known + novel


def stage1_of(parent: RunFolder, config: Config, data: RunData, device: torch.device) -> OpenedRun:
    """Open a finished stage-1 run that fits the data set and split."""
    info = parent.read_info()
    if info.status != "complete":
        raise InputError(
            f"--from {parent.path} is not finished (status {info.status!r}); finish it with "
            "--resume, or name another run"
        )
    if not is_stage1(info, config.dataset, data.split_entry()["known"]):
        raise InputError(
            f"--from {parent.path} is a {info.kind} run of {info.dataset} "
            f"{info.split['name']!r}; discovery on {config.dataset} {data.split.name!r} needs a "
            "finished stage-1 run of the same data set, split, data.labeled_fraction and "
            "data.subset: run pretrain first"
        )
    opened = open_image_run(parent.path, device)
    _check_model(opened, config, SHARED_PARTS)
    if opened.architecture.image_size != data.image_size:
        raise InputError(
            f"--from {parent.path} was trained at {opened.architecture.image_size} px, this run "
            f"asks for {data.image_size} px; use the same --image-size"
        )
    return opened


def _check_model(opened: OpenedRun, config: Config, parts: tuple[str, ...]) -> None:
    """Refuse a configuration whose network differs from that of the parent run."""
    for part in parts:
        made, asked = getattr(opened.architecture, part), getattr(config.model, part)
        if made != asked:
            raise InputError(
                f"--from {opened.run.path} has the {part} {made!r}, this run asks for "
                f"{asked!r}; use --set model.{part}={made}"
            )
