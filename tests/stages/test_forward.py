"""Forward passes over stored images."""

from __future__ import annotations

import pytest
import torch

from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.stages.forward import forward_batch


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_network_is_restored_after_an_error(training: bool) -> None:
    network = build_network(Architecture("resnet8", image_size=16, num_known=2)).train(training)
    images = torch.zeros(2, 3, 16, 16)
    forward_batch(network, images, lambda pixels: pixels)
    assert network.training is training
    with pytest.raises(RuntimeError):
        forward_batch(network, images[:, :1], lambda pixels: pixels)
    assert network.training is training
