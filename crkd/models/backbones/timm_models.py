"""timm image models as backbones, without downloads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.models.backbones.base import Backbone, BackboneFactory

NUM_MAPS = 4


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    A vision transformer keeps its native position embedding, so that published weights match, and
    interpolates it to the size of the images. Images are padded to whole patches. An architecture
    with a fixed size (MLP-Mixer, Swin) is built for ``image_size``, and other images are resized to
    it.

    Args:
        name: name of the timm model.
        image_size: side in pixels; used if the architecture has a fixed size.
    """

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        # Any, because timm's attributes beyond nn.Module are not typed.
        self.net: Any
        self.net, self._side = _create(name, image_size)
        # Some nets (MobileNetV3) widen their features after the last map.
        self.num_features = int(getattr(self.net, "head_hidden_size", self.net.num_features))
        channels = [int(info["num_chs"]) for info in getattr(self.net, "feature_info", [])]
        self._stages: list[int] = []
        if channels and hasattr(self.net, "forward_intermediates"):
            self._stages = _spread(len(channels), equal=len(set(channels)) == 1)
        self.map_channels = tuple(channels[stage] for stage in self._stages)

    @property
    def loadable(self) -> nn.Module:
        """The timm model itself, whose parameter names match published files."""
        net: nn.Module = self.net
        return net

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, D)`` features of ``(B, 3, h, w)`` images, with timm's pooling."""
        features: Tensor = self.net(self._fitted(images))
        return features

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features and up to four maps; for a transformer those of evenly spread blocks.

        Raises:
            InputError: this timm model has no feature maps.
        """
        if not self._stages:
            raise InputError(
                f"the timm model {type(self.net).__name__} gives no feature maps; choose a "
                "distillation loss that needs none, or another backbone"
            )
        final, maps = self.net.forward_intermediates(self._fitted(images), indices=self._stages)
        return self.net.forward_head(final), tuple(maps)

    def _fitted(self, images: Tensor) -> Tensor:
        if self._side is None or images.shape[-2:] == (self._side, self._side):
            return images
        side = (self._side, self._side)
        return F.interpolate(images, side, mode="bilinear", antialias=True)

    def blocks(self) -> list[nn.Module]:
        """Return the transformer's blocks, or the stages of a convolutional net."""
        if isinstance(getattr(self.net, "blocks", None), nn.Module):
            return list(self.net.blocks.children())
        names = (info.get("module", "") for info in getattr(self.net, "feature_info", []))
        modules = dict(self.net.named_modules())
        return [modules[n] for n in names if n and any(True for _ in modules[n].parameters())]


def timm_factory(name: str) -> BackboneFactory | None:
    """Return a factory for the timm model ``name``, or None if timm has no such model."""
    import timm  # takes a second to import, and most runs do not need it

    if not timm.is_model(name):
        return None

    def make(image_size: int) -> Backbone:
        return TimmBackbone(name, image_size)

    return make


def _create(name: str, image_size: int) -> tuple[Any, int | None]:
    """Return the model and its fixed image size, or None if it accepts any size."""
    import timm

    # Only the constructor tells which of these arguments an architecture accepts.
    choices: tuple[dict[str, object], ...] = (
        {"dynamic_img_size": True, "dynamic_img_pad": True},
        {"img_size": image_size},
        {},
    )
    for choice in choices:
        try:
            net = timm.create_model(name, pretrained=False, num_classes=0, **choice)
        except TypeError:
            continue
        return net, image_size if "img_size" in choice else None
    raise InputError(f"timm cannot make {name!r} without a classifier; choose another backbone")


def _spread(count: int, *, equal: bool) -> list[int]:
    if not equal:
        return list(range(max(0, count - NUM_MAPS), count))
    wanted = min(NUM_MAPS, count)
    return [(part + 1) * count // wanted - 1 for part in range(wanted)]
