"""A discovery on vectors as tensors and plain data, for a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crkd.clustering.shared_gaussians import SharedGaussians
from crkd.clustering.whitening import WhitenedSpace
from crkd.core.errors import InputError
from crkd.stages.vectors.candidates import NovelHead
from crkd.stages.vectors.contest import Contest
from crkd.stages.vectors.discovery import VectorDiscovery
from crkd.stages.vectors.gate import Gate


def state_of(found: VectorDiscovery) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a discovery, and what else there is to it as data for JSON.

    Spaces that several heads share are stored once for each head.
    """
    gate = found.gate
    arrays: dict[str, Any] = {
        "gate.weights": gate.weights,
        "gate.biases": gate.biases,
        "memory.means": gate.memory.means,
        "memory.counts": gate.memory.counts,
        "memory.scatter": gate.memory.scatter,
    }
    spaces = {"space": found.space, "gate": gate.space}
    for number, head in enumerate(found.heads):
        spaces[f"heads.{number}"] = head.space
        arrays[f"heads.{number}.weights"] = head.weights
        arrays[f"heads.{number}.biases"] = head.biases
    for name, space in spaces.items():
        arrays[f"{name}.mean"], arrays[f"{name}.projection"] = space.mean, space.projection
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    data = {
        "sizes": list(gate.sizes),
        "root": {name: space.root for name, space in spaces.items()},
        "contest": found.contest.plain(),
    }
    return tensors, data


def discovery_from(tensors: dict[str, Tensor], data: dict[str, Any]) -> VectorDiscovery:
    """Return the discovery of :func:`state_of`, equal to the last bit.

    Raises:
        InputError: a tensor or an entry is not there.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    try:
        spaces = {
            name: WhitenedSpace(root, arrays[f"{name}.mean"], arrays[f"{name}.projection"])
            for name, root in data["root"].items()
        }
        heads = tuple(
            NovelHead(spaces[name], arrays[f"{name}.weights"], arrays[f"{name}.biases"])
            for name in (f"heads.{number}" for number in range(len(data["sizes"])))
        )
        memory = SharedGaussians(*(arrays[f"memory.{n}"] for n in ("means", "counts", "scatter")))
        gate = Gate(
            spaces["gate"],
            arrays["gate.weights"],
            arrays["gate.biases"],
            tuple(data["sizes"]),
            memory,
        )
        return VectorDiscovery(spaces["space"], gate, heads, Contest.of(data["contest"]))
    except KeyError as error:
        raise InputError(
            f"the discovery has no {error}; it was stored by another program"
        ) from None
