"""Stage 2: discovery of the novel classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.loader import BatchLoader
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import Network
from crkd.runs.console import console
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.discover.feature_replay import FeatureReplay, replayed_samples
from crkd.stages.discover.frost import FrostTask
from crkd.stages.discover.parent import ParentRun, open_parent
from crkd.stages.discover.prototype_init import in_new_clusters, prototypes_from_clusters
from crkd.stages.discover.simgcd import SimgcdTask
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.results import finish_run
from crkd.stages.run_data import RunData
from crkd.stages.views import discovery_views
from crkd.training.cached_teacher import store_teacher
from crkd.training.loop import Loop
from crkd.training.optim import check_optimizer
from crkd.training.session import begin_run, running


def discover(
    config: Config,
    out: str | Path,
    parent: str | Path,
    *,
    resume: bool = False,
    download: bool = False,
) -> RunFolder:
    """Run stage 2 from a stage-1 run and return its finished run folder.

    Args:
        config: the configuration of the run.
        out: the run folder to write.
        parent: the stage-1 run folder.
        resume: continue the run in ``out`` from its saved state.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: the configuration, the data, the parent or the folder is unusable.
        Interrupted: a signal came; the state is saved in ``out``.
    """
    device = pick_device(config.device)
    # An estimate on a GPU can differ in a second one, and the state has heads of this size.
    num_novel = RunFolder.open(out).read_info().num_novel if resume else None
    start = open_parent(config, parent, device, download=download, num_novel=num_novel)
    data, architecture = start.data, start.architecture
    student = _student(start, config, device)
    loader = discovery_loader(config, data, device)
    if config.discover.method == "swapped":
        _warn_small_batch(loader.counts[1], start.num_classes)
    replay = replay_of(start, config, loader.counts[1])
    check_optimizer(student, config.discover.optimizer)
    task = _task(student, start, config, device, replay)
    run = begin_run(
        out, _info(start, config), config, device, resume=resume, samples=data.sample_digests()
    )
    with running(run):
        loop = Loop(
            task,
            loader,
            config=config,
            optimizer=config.discover.optimizer,
            epochs=config.discover.epochs,
            run=run,
            device=device,
        )
        if config.discover.stored_epochs and isinstance(task, DiscoveryTask):
            task.teacher = store_teacher(
                loop,
                task.teacher,
                task.teacher_network,
                mode=config.discover.label_mode,
                num_classes=architecture.num_known,
                resume=resume,
            )
        seconds = loop.train(resume=resume)
        finish_run(
            run,
            task.final_network(),
            data,
            seconds=seconds,
            chosen_head=task.chosen_head(),
            stage1=start.teacher,
            true_known=start.true_classes(),
            earlier=start.known,
        )
    return run


def _student(start: ParentRun, config: Config, device: torch.device) -> Network:
    """Return the initial student: weights, prototypes and mode of batch norm."""
    student = student_of(config, start.architecture, start.teacher, device)
    if config.discover.prototypes == "kmeans" and config.discover.method == "swapped":
        # The student still has the teacher's backbone, so it has the teacher's features.
        prototypes_from_clusters(student, _to_cluster(start, config.seed), seed=config.seed)
    wanted = config.discover.statistics
    # Batch statistics of new images would move the features of old ones, which no loss sees.
    student.backbone.keeps_statistics = wanted == "kept" or (
        wanted == "auto" and start.known.statistics is not None
    )
    return student


def _to_cluster(start: ParentRun, seed: int) -> NDArray[np.float32]:
    """Return the teacher's features of the unlabeled images that may be of novel classes."""
    data, subsets = start.data, start.data.subsets
    features = data.outputs(start.teacher, subsets.unlabeled).features
    if start.shares is None:
        return features
    labeled = data.outputs(start.teacher, subsets.known_train).features
    labels, num_novel = subsets.known_train.labels, start.architecture.num_novel
    return features[in_new_clusters(labeled, labels, features, num_novel, seed=seed)]


def _info(start: ParentRun, config: Config) -> RunInfo:
    return RunInfo(
        kind="discovered",
        dataset=config.dataset,
        split=start.data.split_entry(),
        classes=start.classes,
        preprocessing=start.data.preprocessing(),
        architecture=start.architecture.plain(),
        seed=config.seed,
        parent=start.origin(),
        notes=start.notes,
    )


def _task(
    student: Network,
    start: ParentRun,
    config: Config,
    device: torch.device,
    replay: FeatureReplay | None,
) -> DiscoveryTask | FrostTask | SimgcdTask:
    shape = start.architecture
    if config.discover.method == "simgcd":
        return SimgcdTask(student, config, device)
    if config.discover.method == "frost":
        return FrostTask(
            student, start.teacher, config, device, num_novel=shape.num_novel, replay=replay
        )
    return DiscoveryTask(
        student,
        start.teacher,
        config,
        device,
        num_known=shape.num_known,
        replay=replay,
        shares=None if start.shares is None else torch.from_numpy(start.shares).float(),
    )


def student_of(
    config: Config, architecture: Architecture, teacher: Network, device: torch.device
) -> Network:
    """Return a network with fresh novel heads on the teacher's backbone and known head."""
    student = build_network(
        architecture,
        seed=config.seed,
        trained_blocks=config.model.trained_blocks,
        batch_norm_per_view=config.model.batch_norm_per_view,
    )
    student.backbone.load_state_dict(teacher.backbone.state_dict())
    head = teacher.known_head.state_dict()
    if architecture.joint:
        # The rows of the known classes are the teacher's, those of the novel ones are fresh.
        fresh = student.known_head.state_dict()
        head = {name: torch.cat([head[name], fresh[name][len(head[name]) :]]) for name in fresh}
    student.known_head.load_state_dict(head)
    if config.discover.optimizer.backbone_factor == 0:
        # It is not trained, so it needs no gradient.
        student.backbone.requires_grad_(False)
    return student.to(device)


def replay_of(start: ParentRun, config: Config, unlabeled: int) -> FeatureReplay | None:
    """Return the feature replay of the known classes; None where they have images.

    Args:
        start: with the statistics of known classes without images.
        config: the configuration of the run.
        unlabeled: images of a step.

    Raises:
        InputError: ``model.batch_norm_per_view``, which has no place for features without a view.
    """
    count = replayed_samples(
        config.discover.replay.samples,
        unlabeled=unlabeled,
        num_without_images=len(start.known.without_images),
        num_classes=start.num_classes,
    )
    if start.known.statistics is None or count == 0:
        return None
    if config.model.batch_norm_per_view:
        raise InputError(
            "model.batch_norm_per_view is true, but known classes without images are replayed as "
            "features, which belong to no view; use --set model.batch_norm_per_view=false"
        )
    return FeatureReplay(
        start.known.statistics, count, seed=config.seed, classes=start.known.without_images
    )


def discovery_loader(config: Config, data: RunData, device: torch.device) -> BatchLoader:
    """Return the batches of stage 2."""
    return BatchLoader(
        data.store(data.subsets.known_train),
        data.subsets.known_train.labels,
        data.store(data.subsets.unlabeled),
        batch_size=config.discover.batch_size,
        labeled_share=config.discover.labeled_share,
        views=discovery_views(config, data),
        view_epochs=config.discover.stored_epochs,
        seed=config.seed,
        device=device,
    )


def _warn_small_batch(unlabeled: int, num_classes: int) -> None:
    if unlabeled < num_classes:
        console.print(
            f"[yellow]warning:[/] a batch holds {unlabeled} unlabeled images for {num_classes} "
            "classes; balanced assignment must then split images between classes and "
            "pseudo-labels stay blurred: raise discover.batch_size (2 to 4 images a class help)",
            highlight=False,
        )
