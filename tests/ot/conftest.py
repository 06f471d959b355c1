"""Independent references and the processor's stand-in for the CUDA kernels."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor


def _float64_loop(
    scores: Tensor,
    epsilon: float,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    relaxation: float | None = None,
) -> Tensor:
    """Sinkhorn's iterations as the formulas read, in float64, one problem after the other."""
    p, n, m = scores.shape
    power = 1.0 if relaxation is None else relaxation / (relaxation + epsilon)
    out = np.empty((p, n, m))
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(p):
            x = scores[i].double().numpy() / epsilon
            b_i = np.full(m, 1 / m) if b is None else (b if b.ndim == 1 else b[i]).double().numpy()
            a_i = np.full(n, 1 / n) if a is None else (a if a.ndim == 1 else a[i]).double().numpy()
            used = (a_i > 0) & (x.max(1) > -np.inf)
            f = np.zeros(used.sum())
            for _ in range(num_iters):
                g = power * (np.log(b_i) - np.logaddexp.reduce(x[used] + f[:, None]))
                g[b_i == 0] = -np.inf
                f = np.log(a_i[used]) - logsumexp(x[used] + g, axis=1)
            plan = np.exp(x + g - logsumexp(x + g, axis=1, keepdims=True))
            out[i] = np.where((x.max(1) > -np.inf)[:, None], plan, b_i)
    return torch.from_numpy(out)


@pytest.fixture(scope="session")
def float64_loop() -> Callable[..., Tensor]:
    return _float64_loop


@pytest.fixture(scope="session")
def row_error() -> Callable[[Tensor, Tensor], float]:
    """Largest L1 distance of two rows; NaN if any entry is."""

    def measure(result: Tensor, expected: Tensor) -> float:
        return float((result.double() - expected.double()).abs().sum(-1).max())

    return measure


@pytest.fixture(scope="session")
def benchmark() -> ModuleType:
    """The benchmark of Sinkhorn, which can pretend that the machine has a GPU."""
    return importlib.import_module("benchmarks.sinkhorn")


@pytest.fixture(scope="session")
def kernels_on_cpu() -> ModuleType:
    from tests.support import kernels_on_cpu as module

    if module.COMPILER is None:
        pytest.skip("g++ is not installed: the kernels cannot be run on the processor")
    return module


@pytest.fixture(scope="session")
def nvrtc() -> None:
    """The compiler of the kernels; tests are skipped without it."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="crkd[cuda] is not installed")
    pytest.importorskip("cuda.core", reason="crkd[cuda] is not installed")
    from crkd.ot.cuda import compiler

    try:
        compiler._nvrtc_version()
    except Exception as error:  # noqa: BLE001
        # The binding is there, the compiler's library is not; its error type varies by version.
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    try:
        compiler.compiled('extern "C" __global__ void nothing() {}', "sm_90")
    except RuntimeError as error:
        # Early versions of cuda-core ask the driver, which is missing here, about what they made.
        if not re.search("driver|libcuda", str(error), re.IGNORECASE):
            raise
        pytest.skip(f"this cuda-core compiles nothing without a driver: {error}")
