"""Networks of untrusted descriptions: sizes are compared with the weights before memory is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from crkd.core.errors import InputError
from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.models.network import Network
from crkd.models.weights import check_fit, load_strict

_WITHOUT_MEMORY: Final = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
)


class _WithoutMemory(TorchFunctionMode):
    """Makes weights on torch's meta device, which holds shapes and no values.

    Small tables that constructors read on the host (``linspace``, ``arange``) stay there, so timm's
    models can be built too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _WITHOUT_MEMORY:
            given["device"] = "meta"
        return func(*args, **given)


def fitted_network(
    architecture: Architecture, tensors: Mapping[str, Tensor], *, source: str = "the weights"
) -> Network:
    """Return the network of an architecture with given weights.

    Nothing of the size that the architecture states is allocated before the names and shapes of
    all its weights are those of ``tensors``.

    Args:
        architecture: of a file.
        tensors: by parameter or buffer name.
        source: name of the weights in messages.

    Raises:
        InputError: the architecture is unknown, or the weights are those of another one.
    """
    try:
        with _WithoutMemory():
            shapes = build_network(architecture).state_dict()
    except InputError:
        raise
    except Exception as error:
        # The constructors of other libraries raise what they like for sizes that do not fit.
        raise InputError(
            f"{source} are of a network {architecture.backbone!r} for images of "
            f"{architecture.image_size} pixels, which cannot be built ({error}); restore them"
        ) from error
    check_fit(shapes, tensors, source=source)
    network = build_network(architecture)
    load_strict(network, tensors, source=source)
    return network
