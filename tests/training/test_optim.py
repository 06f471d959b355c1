"""Optimizer state that was saved and restored goes on as if nothing had happened."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crkd.config.blocks import OptimizerConfig
from crkd.training.optim import build_optimizer, optimizer_tensors, restore_optimizer


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_restored_state_has_the_layout_of_its_weights(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01)  # type: ignore[arg-type]
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    images = torch.randn(5, 4, 8, 8)

    def train(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(images).square().sum().backward()
        optimizer.step()

    optimizer = build_optimizer(layer, config)
    train(optimizer)
    weights = {key: value.clone() for key, value in layer.state_dict().items()}
    saved = {k: t.clone().contiguous() for k, t in optimizer_tensors(optimizer).items()}
    train(optimizer)
    straight = layer.weight.detach().clone()

    layer.load_state_dict(weights)
    again = build_optimizer(layer, config)
    restore_optimizer(again, saved)
    train(again)
    assert torch.equal(layer.weight, straight)
