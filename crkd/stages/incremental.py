"""A plan of discoveries: stage 1, then incremental steps without old images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.config.blocks import TermConfig
from crkd.config.schema import Config, ReplayConfig
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import LABELED_SEED, partition
from crkd.data.splits.sessions import SessionSizes, sessions
from crkd.data.splits.smaller import class_fraction_mask
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.sessions import plan_metrics, session_entry
from crkd.runs.folder import RunFolder
from crkd.stages.class_memory import true_classes
from crkd.stages.discover.mixed import check_mixed
from crkd.stages.load_images import load_images
from crkd.stages.plan_folder import PlanFolder
from crkd.stages.plan_stage import PlanStage

REMEMBER = (TermConfig("class_relation", 0.1), TermConfig("features", 1.0))
"""Regularizers of an incremental step that preserve the known classes."""

BACKBONE_FACTOR = 0.0
"""In an incremental step only the heads learn. The statistics of old classes are of the backbone's
features; a small drift of the backbone already moves most old images to new classes."""

METHODS = ("remember", "finetune", "frost")


def further(config: Config, method: str = "remember") -> Config:
    """Return the configuration of a step without old images.

    Replayed features belong to no view, so ``model.batch_norm_per_view`` is false in such a step.
    The backbone of ``remember`` is frozen, so its optimizer is SGD where the run before had Muon.

    Args:
        config: of the run before; its discovery block says how long a step trains.
        method: ``remember`` (class relations, features and replay),
            ``finetune`` (none of them, the easy baseline) or ``frost`` (the published recipe).

    Raises:
        InputError: the method is unknown.
    """
    if method not in METHODS:
        raise InputError(f"--method {method!r} is unknown; choose one of: {', '.join(METHODS)}")
    trained = config.discover.optimizer
    # Muon is for the backbone; it uses SGD for all else.
    name = "sgd" if trained.name == "muon" else trained.name
    slow = dataclasses.replace(trained, name=name, backbone_factor=BACKBONE_FACTOR)
    changes: dict[str, Any] = {
        "labeled": False,
        "num_novel": None,
        "distillation": REMEMBER,
        "optimizer": slow,
    }
    if method == "finetune":
        changes |= {
            "distillation": (),
            "replay": ReplayConfig(samples=0),
            "statistics": "batch",
            "optimizer": trained,
        }
    if method == "frost":
        changes |= {
            "method": "frost",
            "distillation": (),
            "statistics": "batch",
            "optimizer": trained,
        }
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, batch_norm_per_view=False),
        discover=dataclasses.replace(config.discover, **changes),
    )


def extension(run: RunFolder) -> Config:
    """Return the configuration with which own images extend a finished run.

    Everything is as in that run, but for the images; with ``--known`` old images may join. Whether
    the new images may be of known classes is for ``--mixed`` to say. The known head of a student
    may differ from the one in its configuration, which is its teacher's.
    """
    config, info = run.read_config(), run.read_info()
    config = further(config)
    known_head = (info.architecture or {}).get("known_head", config.model.known_head)
    data = dataclasses.replace(
        config.data,
        known=None,
        novel=None,
        image_size=info.preprocessing["image_size"],
        labeled_fraction=1.0,
        session=None,
    )
    return dataclasses.replace(
        config,
        dataset="folder",
        split=None,
        class_order_seed=None,
        data=data,
        model=dataclasses.replace(config.model, known_head=known_head),
        discover=dataclasses.replace(config.discover, labeled=None, mixed=False),
    )


def plan_splits(split: ClassSplit, sizes: Sequence[int]) -> list[ClassSplit]:
    """Return the split of every stage: its known classes are all that came before.

    Args:
        split: gives the order of the classes.
        sizes: classes of stage 1 and of every step.

    Raises:
        InputError: the plan takes more classes than there are.
    """
    order = split.order
    if sum(sizes) > len(order):
        raise InputError(
            f"--plan {'-'.join(map(str, sizes))} takes {sum(sizes)} classes, but the split "
            f"{split.name!r} of {split.dataset} has {len(order)}; lower it"
        )
    bounds = [0, *np.cumsum(sizes).tolist()]
    plan = "-".join(map(str, sizes))
    splits = []
    for stage in range(len(sizes)):
        low, high = (0, bounds[1]) if stage == 0 else (bounds[stage], bounds[stage + 1])
        known, novel = (order[:high], ()) if stage == 0 else (order[:low], order[low:high])
        splits.append(
            dataclasses.replace(split, name=f"{plan}-step{stage}", known=known, novel=novel)
        )
    return splits


def run_plan(
    config: Config,
    sizes: Sequence[int],
    out: str | Path,
    *,
    method: str = "remember",
    mixed: SessionSizes | None = None,
    resume: bool = False,
    download: bool = False,
) -> dict[str, Any]:
    """Run every stage of a plan, each in its own folder, and return the metrics of the plan.

    Args:
        config: of stage 1 and of the steps.
        sizes: classes of stage 1 and of every step.
        out: parent folder; gets ``step-0``, ``step-1``, ... , and the files of
            :class:`~crkd.stages.plan_folder.PlanFolder`.
        method: see :func:`further`.
        mixed: sizes of a session that mixes new and old classes; None gives a step all images of
            its new classes.
        resume: keep finished stages and continue the interrupted one.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: the plan, the configuration, the data or the folder is unusable, or the folder
            holds another plan.
        Interrupted: a signal came; the state is saved.
    """
    if config.dataset == "folder":
        raise InputError(
            "a plan divides the classes of a labeled data set; for own images run discover "
            "--from RUN --novel DIR once for every folder of new images"
        )
    later = _later(config, method, sizes[0], mixed)
    plan = PlanFolder(out, config, sizes, method, mixed)
    plan.check(resume=resume)
    dataset, split = load_images(config, download=download)
    split.check(dataset)
    splits = plan_splits(split, sizes)
    listed: Sequence[list[str] | None] = [None] * len(splits)
    if mixed is not None:
        listed = [None, *_sessions(config, dataset, split, sizes, mixed)[1:]]
    places = [plan.path / f"step-{number}" for number in range(len(splits))]
    configs = [config, *[later] * (len(splits) - 1)]
    parents = [None, *places[:-1]]
    stages = [*map(PlanStage, places, parents, splits, configs, listed)]
    for stage in stages:
        stage.check()
    plan.begin()
    steps: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for number, stage in enumerate(stages):
        outputs, class_of, truth = test_outputs(stage.run(), dataset, stage.split, config)
        entry = session_entry(outputs, class_of, truth, sizes[: number + 1])
        kind = "discover" if number else "pretrain"
        steps.append({"stage": kind, **entry, "run": stage.place.name})
        metrics = plan.record({"steps": steps, **plan_metrics(steps)})
    return metrics


def _later(config: Config, method: str, num_known: int, mixed: SessionSizes | None) -> Config:
    """Return the configuration of the steps of a plan; refuse one that a step would refuse."""
    later = further(config, method)
    # By the plan, a step has images of new classes.
    discover = dataclasses.replace(later.discover, precheck=False, mixed=mixed is not None)
    later = dataclasses.replace(later, discover=discover)
    if mixed is None:
        data = dataclasses.replace(later.data, labeled_fraction=1.0)
        return dataclasses.replace(later, data=data)
    check_mixed(later, config.model.known_head, num_known)
    if discover.assignment.prior == "given":
        raise InputError(
            "discover.assignment.prior is 'given', but every session of a plan has another number "
            "of classes; choose uniform or estimated"
        )
    return later


def _sessions(
    config: Config, dataset: Dataset, split: ClassSplit, sizes: Sequence[int], mixed: SessionSizes
) -> list[list[str]]:
    """Return the ids of the images of every session."""
    source = dataset.train
    used = class_fraction_mask(source.labels, config.data.subset)
    drawn = sessions(
        np.where(used, split.joint_ids(source.labels), -1),
        sizes,
        labeled_fraction=config.data.labeled_fraction,
        mixed=mixed,
        seed=config.seed,
        labeled_seed=LABELED_SEED,
    )
    return [[source.ids[row] for row in rows] for rows in drawn]


def test_outputs(
    run: RunFolder, dataset: Dataset, split: ClassSplit, config: Config
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return what the evaluator needs of a finished stage, on the test images.

    Returns:
        ``(N,)`` outputs in ``[0, C)``, ``(C,)`` class of each output as a joint id of ``split``,
        -1 for a cluster without a class, and ``(N,)`` true joint ids.
    """
    predictions = load_predictions(run.path / "predictions.parquet")
    test = predictions.of("test")
    outputs = predictions.known_head[test]
    if predictions.chosen_head is not None:
        outputs = predictions.joint_heads[predictions.chosen_head][test]
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        subset=config.data.subset,
    )
    class_of = true_classes(run, len(run.read_info().classes))
    return outputs.astype(np.int64), class_of, parts.hidden.test()
