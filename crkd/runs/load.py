"""Open a finished run: its description, configuration and network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.fields import Allowed, whole, wrong_field
from crkd.data.datasets.base import DATASETS
from crkd.models.architecture import Architecture
from crkd.models.backbones.base import BACKBONES
from crkd.models.fitting import fitted_network
from crkd.models.network import Network
from crkd.models.vector_network import VectorSpaces, vector_network
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.plugins import check_plugin

MAX_SIDE: Final = 4096
"""Largest side in pixels of the images of a network."""


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
    architecture = _architecture(run, info)
    tensors = run.read_model(info)[0]
    if architecture.on_vectors:
        # Linear maps of vectors are fast enough on every CPU.
        network = vector_network(tensors)
        _check_vector_sizes(network, architecture, run)
        return OpenedRun(run, info, run.read_config(), architecture, network)
    check_plugin(run.path, info, BACKBONES, architecture.backbone)
    source = f"the weights in {run.path / 'model.safetensors'}"
    network = fitted_network(architecture, tensors, source=source)
    return OpenedRun(run, info, run.read_config(), architecture, network.to(device).eval())


def _architecture(run: RunFolder, info: RunInfo) -> Architecture:
    """Return the architecture of a run, which fits its classes, its chosen head and its images."""
    file = run.path / "run.json"
    shape = Architecture.from_plain(info.architecture, str(file))
    for name, here, count in (
        ("num_known", shape.num_known, info.num_known),
        ("num_novel", shape.num_novel, info.num_novel),
    ):
        if here != count:
            raise wrong_field(file, f"architecture.{name}", here, f"{count}, as classes has it")
    heads = shape.num_heads if shape.has_novel_heads else 1
    allowed = whole(0, heads - 1) if shape.num_novel else Allowed(lambda v: v is None, "null")
    if info.model_sha256 is not None and not allowed.check(info.chosen_head):
        raise wrong_field(file, "chosen_head", info.chosen_head, allowed.words)
    size = info.preprocessing["image_size"]
    if size != shape.image_size:
        words = f"{shape.image_size}, as architecture.image_size"
        raise wrong_field(file, "preprocessing.image_size", size, words)
    if not shape.on_vectors:
        if size > MAX_SIDE:
            raise wrong_field(file, "preprocessing.image_size", size, f"at most {MAX_SIDE}")
        for name in ("mean", "std"):
            if len(info.preprocessing[name]) != 3:
                words = "a list of 3 numbers"
                raise wrong_field(file, f"preprocessing.{name}", info.preprocessing[name], words)
    return shape


def _check_vector_sizes(network: Network, shape: Architecture, run: RunFolder) -> None:
    """Refuse a model of vectors whose sizes are not those of its description."""
    assert isinstance(network.backbone, VectorSpaces)
    vector = torch.zeros(1, network.backbone.num_inputs)
    try:
        with torch.inference_mode():
            outputs = network([vector])
    except RuntimeError:
        raise InputError(f"{run.path}: the tensors of the model do not fit; restore it") from None
    novel = 0 if outputs.novel_logits is None else outputs.novel_logits.shape[-1]
    found = (vector.shape[1], outputs.known_logits.shape[-1], novel)
    stated = (shape.image_size, shape.num_known, shape.num_novel)
    if found != stated:
        raise InputError(
            f"{run.path}: the model takes vectors of length {found[0]} and knows {found[1]} + "
            f"{found[2]} classes, but run.json has {stated[0]} and {stated[1]} + {stated[2]}; "
            "restore the folder"
        )


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
    if opened.architecture.on_vectors:
        raise InputError(
            f"{opened.run.path} is a discovery on feature vectors, which trained no network for "
            "images; name a run of a named data set or of discover --train-backbone"
        )
    return opened
