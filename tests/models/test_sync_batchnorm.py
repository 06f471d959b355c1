"""Statistics over two processes are checked in ``tests/engine/test_two_processes.py``."""

from __future__ import annotations

import pytest
import torch
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
