"""A discovery on vectors as tensors: the model file of its run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from crkd.clustering.tied_gaussians import TiedGaussians
from crkd.clustering.tied_mixtures import TiedMixtures
from crkd.clustering.whitening import WhitenedSpace
from crkd.core.errors import InputError
from crkd.models.network import Network
from crkd.models.vector_network import vector_network
from crkd.stages.vectors.candidates import NovelHead
from crkd.stages.vectors.contest import Contest
from crkd.stages.vectors.discovery import VectorDiscovery
from crkd.stages.vectors.gate import Gate


def state_of(found: VectorDiscovery) -> dict[str, Tensor]:
    """Return the tensors of a discovery, as :func:`vector_network` reads them.

    Further tensors hold the discovery's own space (``whitened``) and the class statistics
    (``memory.*``), from which an incremental step starts.
    """
    gate = found.gate
    spaces: list[WhitenedSpace] = []

    def number_of(space: WhitenedSpace) -> int:
        known = [number for number, other in enumerate(spaces) if other is space]
        if not known:
            spaces.append(space)
        return known[0] if known else len(spaces) - 1

    number_of(gate.space)
    arrays = {"whitened": np.array(number_of(found.space))}
    columns = np.cumsum((0, *gate.sizes))
    for number, head in enumerate(found.heads):
        part = slice(columns[number], columns[number + 1])
        arrays |= {
            f"groups.{number}.space": np.array(number_of(head.space)),
            f"groups.{number}.density": gate.weights[:, part],
            f"groups.{number}.density_bias": gate.biases[part],
            f"groups.{number}.weights": head.weights,
            f"groups.{number}.biases": head.biases,
        }
    for number, space in enumerate(spaces):
        arrays |= {
            f"spaces.{number}.root": np.array(space.root),
            f"spaces.{number}.mean": space.mean,
            f"spaces.{number}.projection": space.projection,
        }
    for name in ("means", "counts", "scatter"):
        arrays[f"memory.{name}"] = getattr(gate.memory.parts, name)
    arrays["memory.classes"] = gate.memory.classes
    # The network computes in float64, so that a prediction does not depend on the batch.
    return {
        name: torch.from_numpy(
            np.array(values, np.float64 if values.dtype.kind == "f" else values.dtype)
        )
        for name, values in arrays.items()
    }


def network_of(found: VectorDiscovery) -> Network:
    """Return the network that predicts as the discovery does."""
    return vector_network(state_of(found))


def discovery_from(tensors: Mapping[str, Tensor], contest: Contest) -> VectorDiscovery:
    """Return the discovery of :func:`state_of`.

    Raises:
        InputError: a tensor is missing.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def floats(name: str) -> np.ndarray:
        return arrays[name].astype(np.float32)

    try:
        count = sum(name.endswith(".root") for name in arrays)
        spaces = [
            WhitenedSpace(
                bool(arrays[f"spaces.{number}.root"]),
                arrays[f"spaces.{number}.mean"],
                arrays[f"spaces.{number}.projection"],
            )
            for number in range(count)
        ]
        groups = [f"groups.{g}" for g in range(sum(n.endswith("density_bias") for n in arrays))]
        heads = tuple(
            NovelHead(
                spaces[int(arrays[f"{group}.space"])],
                floats(f"{group}.weights"),
                floats(f"{group}.biases"),
            )
            for group in groups
        )
        gate = Gate(
            spaces[0],
            np.concatenate([floats(f"{group}.density") for group in groups], axis=1),
            np.concatenate([floats(f"{group}.density_bias") for group in groups]),
            tuple(head.weights.shape[1] for head in heads),
            _memory(arrays),
        )
        return VectorDiscovery(spaces[int(arrays["whitened"])], gate, heads, contest)
    except (KeyError, IndexError) as error:
        raise InputError(f"the model of the run has no {error}; restore it") from None


def _memory(arrays: Mapping[str, np.ndarray]) -> TiedMixtures:
    """Return the class statistics; models of earlier versions have one prototype of a class."""
    parts = TiedGaussians(*(arrays[f"memory.{n}"] for n in ("means", "counts", "scatter")))
    classes = arrays.get("memory.classes", np.arange(len(parts.means)))
    return TiedMixtures(parts, classes.astype(np.int64))
