"""Every check of ``tools/check_gpu.py`` that concerns Sinkhorn, where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from crkd.gpu_checks import sinkhorn as gpu_checks
from crkd.gpu_checks import sinkhorn_triton as triton_checks


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, _ in gpu_checks.checks()])
def test_on_the_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("cuda.core")
    assert dict(gpu_checks.checks())[name]()


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, _ in triton_checks.checks()])
def test_triton_on_the_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert dict(triton_checks.checks())[name]()
