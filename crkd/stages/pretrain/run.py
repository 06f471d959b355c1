"""Stage 1: supervised training on the known classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.data.loader import BatchLoader
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import Network
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.pretrain.task import SupervisedTask, wants_unlabeled
from crkd.stages.results import finish_run
from crkd.stages.run_data import RunData, prepare
from crkd.stages.views import pretraining_views
from crkd.training.loop import Loop
from crkd.training.optim import check_optimizer
from crkd.training.session import begin_run, running

SAW_ALL = "stage 1 saw the unlabeled images too, without labels"


def architecture_of(config: Config, data: RunData, *, num_novel: int = 0) -> Architecture:
    """Return the configured shape of a network for the known classes and M novel ones."""
    model = config.model
    return Architecture(
        backbone=model.backbone,
        image_size=data.image_size,
        num_known=data.num_known,
        num_novel=num_novel,
        num_heads=model.num_heads,
        known_head=model.known_head,
        hidden=model.hidden,
        projection=model.projection,
        overclustering=model.overclustering,
        temperature=model.temperature,
    )


def network_for(config: Config, architecture: Architecture) -> Network:
    """Return a fresh network, the same for the same seed."""
    model = config.model
    return build_network(
        architecture,
        seed=config.seed,
        weights=None if model.weights is None else Path(model.weights),
        trained_blocks=model.trained_blocks,
        batch_norm_per_view=model.batch_norm_per_view,
    )


class SupervisedTraining:
    """A fresh network and its batches, made before any folder is written.

    Args:
        config: the configuration of the run.
        data: the network learns its known training images, and the unlabeled ones if configured.
        device: where it computes.

    Raises:
        InputError: the configuration does not fit the images.
    """

    def __init__(self, config: Config, data: RunData, device: torch.device) -> None:
        self.config, self.device = config, device
        self.architecture = architecture_of(config, data)
        self.network = network_for(config, self.architecture).to(device)
        check_optimizer(self.network, config.pretrain.optimizer)
        self._task = SupervisedTask(self.network, config, device)
        self._loader = BatchLoader(
            data.store(data.subsets.known_train),
            data.subsets.known_train.labels,
            data.store(data.subsets.unlabeled) if wants_unlabeled(config) else None,
            batch_size=config.pretrain.batch_size,
            views=pretraining_views(config, data),
            seed=config.seed,
            device=device,
        )

    def loop(self, run: RunFolder | None, say: Callable[[str], None] = lambda line: None) -> Loop:
        """Return the training loop that writes to ``run``; None trains without files."""
        return Loop(
            self._task,
            self._loader,
            config=self.config,
            optimizer=self.config.pretrain.optimizer,
            epochs=self.config.pretrain.epochs,
            run=run,
            device=self.device,
            say=say,
        )

    def train(self, run: RunFolder, *, resume: bool) -> float:
        """Train to the end; return the seconds spent. Raises as :meth:`Loop.train`."""
        return self.loop(run).train(resume=resume)


def pretrain(
    config: Config, out: str | Path, *, resume: bool = False, download: bool = False
) -> RunFolder:
    """Run stage 1 and return its finished run folder.

    Args:
        config: the configuration of the run.
        out: the run folder.
        resume: continue the run in ``out`` from its saved state.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: the configuration, the data or the folder is unusable.
        Interrupted: a signal came; the state is saved in ``out``.
    """
    device = pick_device(config.device)
    data = prepare(config, device, download=download)
    training = SupervisedTraining(config, data, device)
    info = RunInfo(
        kind="supervised",
        dataset=config.dataset,
        split=data.split_entry(),
        classes=data.class_entries(0),
        preprocessing=data.preprocessing(),
        architecture=training.architecture.plain(),
        seed=config.seed,
        notes=_notes(config, data, training.network),
    )
    run = begin_run(out, info, config, device, resume=resume, samples=data.sample_digests())
    with running(run):
        seconds = training.train(run, resume=resume)
        finish_run(run, training.network, data, seconds=seconds, chosen_head=None)
    return run


def _notes(config: Config, data: RunData, network: Network) -> list[str]:
    """Return the remarks about a run: on its data, and on what the network starts from."""
    notes, weights = [*data.notes], network.backbone.weights_report
    if config.pretrain.unlabeled:
        notes.append(SAW_ALL)
    if weights is not None:
        notes.append(f"the backbone starts from {weights.sentence()}")
    return notes
