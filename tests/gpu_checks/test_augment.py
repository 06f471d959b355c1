"""The GPU checks as tests; skipped visibly without a CUDA device."""

from __future__ import annotations

import pytest
import torch

from crkd.gpu_checks.augment import checks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [name for name, _ in checks()])
def test_augmentation_on_the_gpu(name: str):
    assert dict(checks())[name]()
