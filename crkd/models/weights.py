"""Loading of weights from files and other runs, strictly and without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError, listed

_CONTAINERS = ("state_dict", "model", "teacher")
_PREFIXES = ("module.", "backbone.", "encoder.")
_CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.", "linear.")
_OWN_HEADS = ("known_head.", "novel_heads.", "over_heads.")


class WeightsReport(NamedTuple):
    """Report on a weight file loaded into a backbone.

    Attributes:
        path: the file.
        loaded: number of copied tensors.
        ignored: names in the file that belong to a classifier, which a backbone lacks.
    """

    path: str
    loaded: int
    ignored: tuple[str, ...]

    def sentence(self) -> str:
        """Return the report as one line for a log."""
        left = f"; classifier weights left out: {listed(self.ignored)}" if self.ignored else ""
        return f"{self.loaded} weight tensors from {self.path}{left}"


def load_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], *, source: str = "the weights"
) -> None:
    """Copy ``tensors`` into ``module``, all of them or none.

    Args:
        module: receives the weights; its device and dtype do not change.
        tensors: by parameter or buffer name.
        source: name of the weights in messages.

    Raises:
        InputError: lists every missing, unexpected and misshapen name; nothing was copied.
    """
    check_fit(module.state_dict(), tensors, source=source)
    module.load_state_dict(dict(tensors))


def check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Compare names and shapes of weights with those of a network.

    Args:
        own: of the network; tensors of torch's meta device will do.
        tensors: of a file.
        source: as in :func:`load_strict`.

    Raises:
        InputError: lists missing, unexpected and misshapen names, four of each.
    """
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    faults = [
        f"{kind}: {listed(names, limit=4)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
        )
        if names
    ]
    if faults:
        raise InputError(
            f"{source} do not fit the network ({'; '.join(faults)}); "
            "use the architecture, image size and class counts they were made with"
        )


def read_weights(path: Path, flag: str = "--weights") -> dict[str, Tensor]:
    """Return the named tensors of a safetensors or torch file, on the CPU.

    A torch file is read with ``weights_only=True``, so no code in it is executed.

    Args:
        path: the file.
        flag: the argument that named it, for messages.

    Raises:
        InputError: no such file, unreadable, or without named tensors.
    """
    if not path.is_file():
        raise InputError(f"{flag} {path} is not a file; give a safetensors or torch weight file")
    try:
        content = _read(path)
    except Exception as error:  # the readers raise any exception on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{flag} {path} cannot be read ({reason}); "
            "give a safetensors file or a torch file that holds tensors alone"
        ) from error
    tensors = _named_tensors(content)
    if not tensors:
        raise InputError(
            f"{flag} {path} holds no named tensors; give a saved state_dict of the backbone"
        )
    return tensors


def load_backbone_weights(module: nn.Module, path: Path) -> WeightsReport:
    """Load a backbone from ``path``, ignoring a classifier in the file.

    Wrappers' prefixes (``module.``, ``backbone.``, ``encoder.``) are removed. The model file of a
    run of this project is accepted too.

    Raises:
        InputError: the file is unreadable, or a weight is missing, unexpected or misshapen.
    """
    tensors = _without_prefixes(read_weights(path), module)
    own = module.state_dict()
    ignored = tuple(
        name for name in tensors if name not in own and name.startswith(_CLASSIFIERS + _OWN_HEADS)
    )
    kept = {name: tensor for name, tensor in tensors.items() if name not in ignored}
    load_strict(module, kept, source=f"the weights of {path}")
    return WeightsReport(str(path), len(kept), ignored)


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        # Imported here, because the network itself needs no file format.
        from safetensors.torch import load_file

        return load_file(path)
    content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _named_tensors(content: object) -> dict[str, Tensor]:
    for _ in range(2):  # releases nest containers at most twice
        if not isinstance(content, Mapping):
            return {}
        inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _without_prefixes(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    own = module.state_dict()
    for prefix in _PREFIXES:
        carries = any(name.startswith(prefix) for name in tensors)
        if carries and not any(name.startswith(prefix) for name in own):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
