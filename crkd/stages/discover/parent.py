"""What a discovery starts from: the network of an earlier run, and what it knows."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.class_gaussians import ClassStatistics
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.network import Network, absorbed
from crkd.runs.folder import RunFolder
from crkd.runs.load import OpenedRun, open_image_run
from crkd.runs.plugins import check_installed
from crkd.runs.search import matches
from crkd.stages.class_memory import true_classes
from crkd.stages.discover.class_count import estimate_num_novel
from crkd.stages.discover.feature_replay import load_replay
from crkd.stages.discover.known_filter import Precheck, precheck
from crkd.stages.discover.set_aside import SetAside, set_aside
from crkd.stages.run_data import (
    RunData,
    num_novel_classes,
    prepare,
    prepare_incremental,
    split_entry,
)
from crkd.training.plugins import asked_for

ONLY_KNOWN = 0.9
"""Share of known-looking images from which on a folder may hold no new class."""
STRANGER = 0.55
"""Share of pairs of an unlabeled and a known image, up to which the unlabeled one is the
stranger, where a folder holds known classes alone. Novel images of a weak network look known one
by one, and yet stranger as a whole."""


@dataclass(frozen=True)
class ParentRun:
    """An earlier run, seen as the teacher of the next.

    Attributes:
        parent: the run.
        data: images of the new run.
        teacher: its known head answers all K classes that the parent knows.
        architecture: of the student.
        classes: the new label space; known classes keep their ids and names.
        statistics: of the K classes' features, where images of some are gone; else None.
        gone: ids of the known classes without images.
        aside: unlabeled images that look like known classes and are no part of ``data``; None
            where none were looked for.
        notes: what has to be said beside every figure.
    """

    parent: OpenedRun
    data: RunData
    teacher: Network
    architecture: Architecture
    classes: list[dict[str, Any]]
    statistics: ClassStatistics | None
    gone: tuple[int, ...]
    aside: SetAside | None
    notes: list[str]

    def true_classes(self) -> NDArray[np.int64]:
        """Return the true class of every known output, for the evaluator alone."""
        return true_classes(self.parent.run, self.architecture.num_known)

    def origin(self) -> dict[str, str]:
        """Return what ``run.json`` says of the parent."""
        return {
            "path": str(self.parent.run.path),
            "model_sha256": self.parent.info.model_sha256 or "",
        }


def open_parent(
    config: Config, parent: str | Path, device: torch.device, *, download: bool = False
) -> ParentRun:
    """Open the run that a discovery goes on from, and the images that it is about.

    A stage-1 run with its labeled images at hand is the published setting. Everything else is a
    further step: a run that has found classes already, or one whose old images are gone.

    Raises:
        InputError: the run does not fit the images, has no network or is not finished; or there
            is nothing to discover in; or a plug-in that the run was made with is missing.
    """
    run = RunFolder.open(parent)
    info = run.read_info()
    check_installed(run.path, info, asked_for(config, "discovered", None))
    own_without_known = config.dataset == "folder" and config.data.known is None
    further = own_without_known or config.discover.labeled is False or info.num_novel > 0
    if further or "step" in info.classes[-1]:
        opened = open_image_run(run.path, device)
        inner = ("hidden", "projection") if opened.architecture.absorbed().groups else ()
        _check_model(opened, config, ("known_head", "temperature", *inner))
        data = prepare_incremental(
            config,
            device,
            classes=info.classes,
            preprocessing=info.preprocessing,
            download=download,
        )
    else:
        data = prepare(config, device, download=download)
        opened = stage1_of(run, config, data, device)
    if len(data.subsets.novel_train) == 0:
        raise InputError(
            f"split {data.split.name!r} leaves no unlabeled image to discover in; "
            "choose a split with novel classes, or give --novel DIR"
        )
    mixed = config.discover.mixed
    checked = precheck(opened, data, config, device) if further or mixed else None
    if checked is not None and further:
        _check_new(checked, opened, config)
    notes = [] if checked is None else [checked.sentence]
    teacher, aside = absorbed(opened.network, info.chosen_head), None
    if checked is not None and mixed:
        data, aside = set_aside(data, checked, teacher, info.classes, config, device)
        notes.append(aside.sentence)
    num_novel, origin = _counted(opened, data, config, device)
    if num_novel > len(data.subsets.novel_train):
        raise InputError(
            f"--num-novel {num_novel} exceeds the {len(data.subsets.novel_train)} unlabeled "
            "images; lower it"
        )
    known = opened.architecture.absorbed()
    counts = np.bincount(data.subsets.known_train.labels, minlength=len(info.classes))
    gone = tuple(np.flatnonzero(counts == 0).tolist())
    return ParentRun(
        opened,
        data,
        teacher,
        _student_shape(known, config, num_novel, run.path),
        next_classes(info.classes, num_novel),
        load_replay(run.path, len(info.classes)) if gone else None,
        gone,
        aside,
        [*data.notes, origin, *notes],
    )


def _counted(
    opened: OpenedRun, data: RunData, config: Config, device: torch.device
) -> tuple[int, str]:
    """Return M and a sentence that says where it comes from."""
    if config.discover.num_novel != "auto":
        return num_novel_classes(config, data)
    count = estimate_num_novel(opened, data, config, device, seed=config.seed).count
    return count.estimate, (
        f"number of novel classes estimated: {count.estimate}, range {count.low} to {count.high}"
    )


def _check_new(checked: Precheck, opened: OpenedRun, config: Config) -> None:
    """Refuse images that nearly all look known, one by one and as a whole.

    A step would only divide known classes.
    """
    check = checked.check
    found, total = check.count, len(check.scores)
    alike = found >= ONLY_KNOWN * total and check.stranger < STRANGER + 2 * check.noise
    if config.discover.precheck and alike:
        raise InputError(
            f"{found} of {total} unlabeled images look like classes that {opened.run.path} knows, "
            "so that no class is added; sort them with predict, or go on with "
            "--set discover.precheck=false"
        )


def _student_shape(
    known: Architecture, config: Config, num_novel: int, parent: Path
) -> Architecture:
    """Return what the student is made of: the parent's network and room for the novel classes."""
    if config.discover.method == "frost":
        if known.groups:
            raise InputError(
                f"--from {parent} answers its found classes by heads of their own, and the method "
                "'frost' grows one joint head; go on from a run of pretrain or of 'frost'"
            )
        if config.discover.stored_epochs:
            raise InputError(
                "discover.stored_epochs does not apply to the method 'frost', which compares "
                "features; set it to 0"
            )
        return dataclasses.replace(known, num_novel=num_novel, num_heads=1, joint=True)
    return dataclasses.replace(
        known,
        num_novel=num_novel,
        num_heads=config.model.num_heads,
        hidden=config.model.hidden,
        projection=config.model.projection,
        overclustering=config.model.overclustering,
    )


def next_classes(classes: list[dict[str, Any]], num_novel: int) -> list[dict[str, Any]]:
    """Return the label space after ``num_novel`` more classes are found.

    Ids and names stay for ever. A novel class is numbered, not named: nobody has named it yet.

    >>> [c["name"] for c in next_classes([{"id": 0, "name": "cat", "kind": "known"}], 2)]
    ['cat', 'novel-0', 'novel-1']
    """
    taken = {entry["name"] for entry in classes}
    found = sum("step" in entry for entry in classes)
    names = (name for n in itertools.count(found) if (name := f"novel-{n}") not in taken)
    step = 1 + max((entry.get("step", 0) for entry in classes), default=0)
    known = [{**entry, "kind": "known"} for entry in classes]
    novel = [
        {"id": len(known) + m, "name": next(names), "kind": "novel", "step": step}
        for m in range(num_novel)
    ]
    return known + novel


def stage1_of(parent: RunFolder, config: Config, data: RunData, device: torch.device) -> OpenedRun:
    """Open a finished stage-1 run that fits the data set and split."""
    info = parent.read_info()
    if not matches(info, config.dataset, split_entry(data.split)["known"]):
        raise InputError(
            f"--from {parent.path} is a {info.status} {info.kind} run of {info.dataset} "
            f"{info.split['name']!r}; discovery on {config.dataset} {data.split.name!r} needs a "
            "finished stage-1 run of the same data set and split: run pretrain first"
        )
    opened = open_image_run(parent.path, device)
    _check_model(opened, config, ("backbone", "known_head"))
    if opened.architecture.image_size != data.image_size:
        raise InputError(
            f"--from {parent.path} was trained at {opened.architecture.image_size} px, this run "
            f"asks for {data.image_size} px; use the same --image-size"
        )
    return opened


def _check_model(opened: OpenedRun, config: Config, parts: tuple[str, ...]) -> None:
    """Refuse a configuration that asks for another network than the one to go on from."""
    for part in parts:
        made, asked = getattr(opened.architecture, part), getattr(config.model, part)
        if made != asked:
            raise InputError(
                f"--from {opened.run.path} has the {part} {made!r}, this run asks for "
                f"{asked!r}; use --set model.{part}={made}"
            )
