"""Pretrained feature extractors: the network, its preprocessing, and the registry of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import nn

from crkd.core.errors import InputError
from crkd.core.registry import Registry

INTERPOLATIONS: Final = ("bicubic", "bilinear", "lanczos", "nearest")


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of an image for a network.

    The shorter side is scaled to ``image_size`` and the middle square is cut out.

    Attributes:
        image_size: side of the input in pixels.
        interpolation: one of ``INTERPOLATIONS``.
        mean: subtracted from each color; colors are in [0, 1].
        std: divides each color after that.
    """

    image_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Preprocessing:
        """Return the preprocessing of which :meth:`plain` made ``values``.

        Raises:
            InputError: a value is missing or not usable.
        """
        try:
            found = cls(
                int(values["image_size"]),
                str(values["interpolation"]),
                _three(values["mean"]),
                _three(values["std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the preprocessing {values!r} is damaged ({error!r})") from None
        if found.interpolation not in INTERPOLATIONS or found.image_size < 1 or min(found.std) <= 0:
            raise InputError(f"the preprocessing {values!r} is damaged: a value is out of range")
        return found


@dataclass(frozen=True, eq=False)
class PretrainedBackbone:
    """A network with published weights that turns images into feature vectors.

    Attributes:
        name: the name that opens it again ("lite0"); of an ONNX file its absolute path.
        weights_sha256: digest of the weight file.
        preprocessing: what the input goes through.
        num_features: D, the length of a vector.
        network: ``(B, 3, S, S)`` float32, normalized, to ``(B, D)``, in evaluation mode; None for
            an ONNX file.
        onnx: content of an ONNX file; None for a network of torch.
    """

    name: str
    weights_sha256: str
    preprocessing: Preprocessing
    num_features: int
    network: nn.Module | None = None
    onnx: bytes | None = None


PretrainedFactory = Callable[[int | None], PretrainedBackbone]
"""Makes the backbone for inputs of a side in pixels; None takes the side of the backbone."""

PRETRAINED: Registry[PretrainedFactory] = Registry("pretrained backbone", "crkd.models.pretrained")


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
