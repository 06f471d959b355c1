"""The learning rate of each step, and optimizer states that were saved and restored."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crkd.config.blocks import OptimizerConfig
from crkd.core.errors import InputError
from crkd.training.optim import (
    build_optimizer,
    learning_rate,
    optimizer_tensors,
    restore_optimizer,
)
from tests.reference.uno import rates_of_the_release


@pytest.mark.parametrize(
    ("lr", "min_lr", "warmup", "epochs"),
    [(0.4, 0.001, 10, 500), (0.1, 0.001, 10, 200), (0.001, 0.0001, 5, 50), (0.4, 0.0, 1, 7)],
)
def test_a_schedule_of_epochs_is_that_of_the_release(
    lr: float, min_lr: float, warmup: int, epochs: int
) -> None:
    config = OptimizerConfig(lr=lr, min_lr=min_lr, warmup_epochs=warmup, schedule="epoch")
    steps = 3
    ours = [learning_rate(config, step, epochs * steps, steps) for step in range(epochs * steps)]
    expected = rates_of_the_release(lr, min_lr, warmup, epochs)
    assert ours[::steps] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert ours[::steps] == ours[1::steps] == ours[2::steps], "one rate in all steps of an epoch"
    assert ours[0] == min_lr
    assert max(ours) == ours[warmup * steps] == lr


def test_schedules_of_short_runs_have_a_short_warm_up() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.1, warmup_epochs=10, schedule="epoch")
    rates = [learning_rate(config, step, 20 * 2, 2) for step in range(0, 40, 2)]
    assert rates == pytest.approx(rates_of_the_release(1.0, 0.1, 4, 20))
    # Below five epochs there is no whole epoch for a warm-up.
    assert learning_rate(config, 0, 4 * 2, 2) == 1.0
    without = OptimizerConfig(lr=1.0, warmup_epochs=0.0, schedule="epoch")
    assert learning_rate(without, 0, 100, 10) == 1.0


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_restored_state_has_the_layout_of_its_weights(name: str) -> None:
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01)  # type: ignore[arg-type]
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    network = nn.ModuleDict({"backbone": layer})
    images = torch.randn(5, 4, 8, 8)

    def train(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(images).square().sum().backward()
        optimizer.step()

    optimizer = build_optimizer(network, config)
    train(optimizer)
    weights = {key: value.clone() for key, value in layer.state_dict().items()}
    saved = {k: t.clone().contiguous() for k, t in optimizer_tensors(optimizer).items()}
    train(optimizer)
    straight = layer.weight.detach().clone()

    layer.load_state_dict(weights)
    again = build_optimizer(network, config)
    restore_optimizer(again, saved)
    train(again)
    assert torch.equal(layer.weight, straight)


def test_muon_orthogonalizes_convolutions_of_the_backbone_alone() -> None:
    network = nn.ModuleDict(
        {
            "backbone": nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8)
            ),
            "head": nn.Conv2d(8, 2, 1),
        }
    )
    config = OptimizerConfig(name="muon", lr=0.2, matrix_lr=0.1, backbone_factor=0.5)
    matrices, backbone, others = build_optimizer(network, config).param_groups
    assert [p.shape for p in matrices["params"]] == [(8, 4, 3, 3)]
    assert matrices["matrix"] is True
    assert matrices["factor"] * config.lr == pytest.approx(0.05)
    assert len(backbone["params"]) == 2 + 1 + 2 + 2
    assert [p.shape for p in others["params"]] == [(2, 8, 1, 1), (2,)]
    assert [group["matrix"] for group in (backbone, others)] == [False, False]


def test_muon_without_a_convolution_is_refused() -> None:
    network = nn.ModuleDict({"backbone": nn.Linear(3, 2)})
    with pytest.raises(
        InputError, match=r"optimizer\.name is 'muon', but no convolution of the backbone"
    ):
        build_optimizer(network, OptimizerConfig(name="muon"))
