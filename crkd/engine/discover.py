"""Stage 2: discovery of the novel classes."""

from __future__ import annotations

from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.feed import Feed
from crkd.engine.discovery_task import DiscoveryTask
from crkd.engine.find import matches
from crkd.engine.finish import finish_run
from crkd.engine.lifecycle import begin_run, running
from crkd.engine.loop import Loop
from crkd.engine.opened import OpenedRun, open_run
from crkd.engine.pretrain import architecture_of
from crkd.engine.progress import console
from crkd.engine.provenance import pick_device
from crkd.engine.run import RunFolder, RunInfo
from crkd.engine.setup import RunData, num_novel_classes, prepare, split_entry
from crkd.engine.views import discovery_views
from crkd.models.architecture import Architecture
from crkd.models.network import Network, build_network


def load_stage1(
    parent: RunFolder, config: Config, data: RunData, device: torch.device
) -> OpenedRun:
    """Open a finished stage-1 run that fits the data set and split.

    Raises:
        InputError: the run is of another kind, data set, split, image size or network, or is
            not finished.
    """
    info = parent.read_info()
    if not matches(info, config.dataset, split_entry(data.split)["known"]):
        raise InputError(
            f"--from {parent.path} is a {info.status} {info.kind} run of {info.dataset} "
            f"{info.split['name']!r}; discovery on {config.dataset} {data.split.name!r} needs a "
            "finished stage-1 run of the same data set and split: run pretrain first"
        )
    opened = open_run(parent.path, device)
    for part in ("backbone", "known_head"):
        made, asked = getattr(opened.architecture, part), getattr(config.model, part)
        if made != asked:
            raise InputError(
                f"--from {parent.path} has the {part} {made!r}, this run asks for "
                f"{asked!r}; use --set model.{part}={made}"
            )
    if opened.architecture.image_size != data.image_size:
        raise InputError(
            f"--from {parent.path} was trained at {opened.architecture.image_size} px, this run "
            f"asks for {data.image_size} px; use the same --image-size"
        )
    return opened


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
        resume: go on with the run in ``out`` from its saved state.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: the configuration, the data, the parent or the folder is unusable.
        Interrupted: a signal came; the state is saved in ``out``.
    """
    device = pick_device(config.device)
    data = prepare(config, device, download=download)
    if len(data.parts.novel_train) == 0:
        raise InputError(
            f"split {data.split.name!r} leaves no unlabelled image to discover in; "
            "choose a split with novel classes, or give --novel DIR"
        )
    num_novel, origin = num_novel_classes(config, data)
    if num_novel > len(data.parts.novel_train):
        raise InputError(
            f"--num-novel {num_novel} exceeds the {len(data.parts.novel_train)} unlabelled "
            "images; lower it"
        )
    stage1 = load_stage1(RunFolder.open(parent), config, data, device)
    architecture = architecture_of(config, data, num_known=data.num_known, num_novel=num_novel)
    student = student_of(config, architecture, stage1.network, device)
    feed = discovery_feed(config, data, device)
    _warn_small_batch(feed.counts[1], num_novel)
    info = RunInfo(
        kind="discovered",
        status="running",
        dataset=config.dataset,
        split=split_entry(data.split),
        classes=data.class_entries(num_novel),
        preprocessing=data.preprocessing(),
        architecture=architecture.plain(),
        chosen_head=None,
        seed=config.seed,
        provenance={},
        parent={"path": str(parent), "model_sha256": stage1.info.model_sha256 or ""},
        notes=[*data.notes, origin],
    )
    run = begin_run(out, info, config, device, resume=resume)
    with running(run):
        task = DiscoveryTask(student, stage1.network, config, device, num_known=data.num_known)
        loop = Loop(
            task,
            feed,
            config=config,
            optimiser=config.discover.optimiser,
            epochs=config.discover.epochs,
            run=run,
            device=device,
        )
        seconds = loop.train(resume=resume)
        finish_run(
            run,
            student,
            data,
            config,
            device,
            seconds=seconds,
            chosen_head=task.chosen_head(),
            stage1=task.teacher_network,
        )
    return run


def student_of(
    config: Config, architecture: Architecture, stage1: Network, device: torch.device
) -> Network:
    """Return a network with fresh novel heads on the stage-1 backbone and known head."""
    student = build_network(
        architecture, seed=config.seed, trained_blocks=config.model.trained_blocks
    )
    student.backbone.load_state_dict(stage1.backbone.state_dict())
    student.known_head.load_state_dict(stage1.known_head.state_dict())
    student = student.to(device)
    if device.type == "cuda":
        student = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return student


def discovery_feed(config: Config, data: RunData, device: torch.device) -> Feed:
    """Return the batches of stage 2."""
    return Feed(
        data.store(data.parts.known_train),
        data.parts.known_train.labels,
        data.store(data.parts.novel_train),
        batch_size=config.discover.batch_size,
        labelled_share=config.discover.labelled_share,
        views=discovery_views(config, data.image_size, data.dataset.mean, data.dataset.std),
        seed=config.seed,
        device=device,
    )


def _warn_small_batch(unlabelled: int, num_novel: int) -> None:
    if unlabelled < num_novel:
        console.print(
            f"[yellow]warning:[/] a batch holds {unlabelled} unlabelled images for {num_novel} "
            "novel classes; balanced assignment must then split images between classes and "
            "pseudo-labels stay blurred: raise discover.batch_size (2 to 4 images a class help)",
            highlight=False,
        )
