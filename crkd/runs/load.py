"""Open a finished run: its description, configuration and network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS
from crkd.models.architecture import Architecture
from crkd.models.backbones.base import BACKBONES
from crkd.models.network import Network, build_network
from crkd.models.vector_network import NAME as VECTORS
from crkd.models.vector_network import vector_network
from crkd.models.weights import load_strict
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.plugins import check_plugin


@dataclass(frozen=True)
class OpenedRun:
    """A run folder and its contents.

    Attributes:
        run: the folder.
        info: its description.
        config: the configuration that made it.
        architecture: of the network.
        network: with the run's weights, in evaluation mode.
    """

    run: RunFolder
    info: RunInfo
    config: Config
    architecture: Architecture
    network: Network


def open_run(path: str | Path, device: torch.device) -> OpenedRun:
    """Open a finished run of any kind that has a network.

    Raises:
        InputError: there is no run, it is not finished, has no network, is damaged, or its
            backbone is of a plug-in that is not installed.
    """
    run = RunFolder.open(path)
    info = run.read_info()
    if info.architecture is None:
        raise InputError(
            f"{run.path} is a baseline that trained no network; name a run of pretrain, discover "
            "or distill"
        )
    architecture = Architecture.from_plain(info.architecture, str(run.path / "run.json"))
    tensors = run.read_model(info)[0]
    if architecture.backbone == VECTORS:
        # Linear maps of vectors are fast enough on every CPU.
        network = vector_network(tensors)
        return OpenedRun(run, info, run.read_config(), architecture, network)
    check_plugin(run.path, info, BACKBONES, architecture.backbone)
    network = build_network(architecture)
    load_strict(network, tensors)
    return OpenedRun(run, info, run.read_config(), architecture, network.to(device).eval())


def check_dataset(opened: OpenedRun) -> None:
    """Check that the data set of a run is available, before its images are read again.

    Opening a run does not check this: new images need no data set.

    Raises:
        InputError: it is of a plug-in that is not installed, or another one brings its name.
    """
    check_plugin(opened.run.path, opened.info, DATASETS, opened.config.dataset)


def open_image_run(path: str | Path, device: torch.device) -> OpenedRun:
    """Open a finished run whose network takes images.

    Raises:
        InputError: as :func:`open_run`, or the network takes feature vectors.
    """
    opened = open_run(path, device)
    if opened.architecture.backbone == VECTORS:
        raise InputError(
            f"{opened.run.path} is a discovery on feature vectors, which trained no network for "
            "images; name a run of a named data set or of discover --train-backbone"
        )
    return opened
