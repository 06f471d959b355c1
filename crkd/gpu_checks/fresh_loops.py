"""Training loops with untrained networks, for checks and measurements."""

from __future__ import annotations

import dataclasses
import tempfile
import weakref
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discovery_loader, student_of
from crkd.stages.discover.task import DiscoveryTask
from crkd.stages.pretrain.run import SupervisedTraining, architecture_of, network_for
from crkd.stages.run_data import RunData, num_novel_classes
from crkd.training.loop import Loop


def discovery_loop(config: Config, data: RunData, device: torch.device) -> Loop:
    """Return the loop of a discovery from an untrained stage 1, in training mode.

    Args:
        config: the configuration; equal configurations give equal weights and batches.
        data: the images; several loops may share them.
        device: device of the loop.
    """
    known = architecture_of(config, data)
    num_novel, _ = num_novel_classes(data)
    stage1 = network_for(config, known).to(device)
    student = student_of(config, dataclasses.replace(known, num_novel=num_novel), stage1, device)
    task = DiscoveryTask(student, stage1, config, device, num_known=data.num_known)
    task.modules.train()
    return Loop(
        task,
        discovery_loader(config, data, device),
        config=config,
        optimizer=config.discover.optimizer,
        epochs=config.discover.epochs,
        run=_folder(),
        device=device,
    )


def pretraining_loop(config: Config, data: RunData, device: torch.device) -> Loop:
    """Return the loop of a stage 1 from its start, in training mode."""
    loop = SupervisedTraining(config, data, device).loop(_folder())
    loop.task.modules.train()
    return loop


def _folder() -> RunFolder:
    """Return a folder that is deleted with the last loop that holds it."""
    place = tempfile.TemporaryDirectory(prefix="crkd-trial-")
    run = RunFolder(Path(place.name))
    weakref.finalize(run, place.cleanup)
    return run
