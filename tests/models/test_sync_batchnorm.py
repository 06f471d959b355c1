"""Statistics over two processes are checked in ``tests/training/test_two_processes.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from crkd.core.errors import InputError
from crkd.models.backbones.build import build_backbone
from crkd.models.sync_batchnorm import SyncedBatchNorm, synchronize

CPU = torch.device("cpu")


def test_names_parameters_and_outputs_stay() -> None:
    backbone = build_backbone("resnet8", image_size=16)
    images = torch.randn(4, 3, 16, 16)
    backbone(images)
    before, parameters = backbone.state_dict(), list(backbone.parameters())
    wanted = backbone.eval()(images)
    synchronize(backbone.train(), CPU)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(m, SyncedBatchNorm) and m.training for m in norms)
    after = backbone.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(a is b for a, b in zip(backbone.parameters(), parameters, strict=True))
    assert torch.equal(backbone.eval()(images), wanted)
    # A projector around a backbone makes that be visited twice.
    synchronize(backbone, CPU)


def test_a_batch_norm_of_another_kind_is_refused() -> None:
    class Special(nn.BatchNorm2d):
        pass

    with pytest.raises(InputError, match=r"'1' is a Special.* use one process"):
        synchronize(nn.Sequential(nn.Conv2d(3, 4, 1), Special(4)), CPU)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_running_statistics_are_those_of_torch(momentum: float | None) -> None:
    ours, plain = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    synced = SyncedBatchNorm.of(ours)
    for number in range(3):
        images = 5 + number + torch.randn(4, 3, 2, 2)
        torch.testing.assert_close(synced(images), plain(images))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], value)


@pytest.mark.usefixtures("alone")
def test_one_value_per_channel_is_refused_as_in_torch() -> None:
    synced = SyncedBatchNorm.of(nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="one value per channel"):
        synced(torch.ones(1, 3, 1, 1))
    assert torch.equal(synced.running_var, torch.ones(3))
