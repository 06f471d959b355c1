"""Compiles the Triton kernels for GPUs that are not here, as calls of ``sinkhorn`` would.

A stand-in takes the place of Triton's driver, so everything from the front door to the launch is
the real thing; no kernel runs. It is a program of its own, because Triton keeps its driver:
``python -m tests.support.triton_compiled FOLDER`` writes machine code and ``calls.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from benchmarks.sinkhorn import FakeCudaTensor, simulated_gpu
from crkd.ot import sinkhorn
from crkd.ot.triton import launches, solver

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
EXACT = torch.randn(2, 20, 11)
WIDE = torch.randn(1, 3, 5000)
RELAXED = torch.randn(1, 5, 4096).bfloat16()
MORE = torch.randn(3, 37, 32)[:, 1:, 1:12]
"""Another number of problems and samples than ``EXACT``, unaligned; all else is alike."""
CALLS: dict[str, list[tuple[Tensor, dict[str, Any]]]] = {
    "sm_80": [(RELAXED, {"relaxation": 0.1, "class_marginal": 1, "sample_marginal": 2})],
    "sm_90": [
        (EXACT, {}),
        (MORE, {}),
        (EXACT[:, :1, :1], {}),
        (WIDE, {}),
        (RELAXED, {"relaxation": 0.1, "class_marginal": 1, "sample_marginal": 2}),
    ],
    "gfx942": [(EXACT, {})],
}


class Driver:
    """Requests of Triton to the driver, and its launches."""

    def __init__(self) -> None:
        self.names = list(TARGETS)
        self.device = 0
        self.launched: list[dict[str, Any]] = []
        self.loaded = 0
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: {"max_shared_mem": 65536},
            load_binary=self.load,
        )

    def get_current_target(self) -> GPUTarget:
        return TARGETS[self.names[self.device]]

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        return 0

    def load(self, name: str, code: bytes, shared: int, device: int) -> tuple[int, ...]:
        self.loaded += 1
        return 1, 1, 0, 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        def launch(x: int, y: int, z: int, *given: Any) -> None:
            assert given[0] == 0, "not on the current stream"
            self.launched.append({"kernel": metadata.name, "grid": [x, y, z]})

        return launch


def called(driver: Driver, scores: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """Return what one call of ``sinkhorn`` loads, compiles and launches."""
    given = dict(options)
    for name, size in (("class_marginal", scores.shape[2]), ("sample_marginal", scores.shape[1])):
        if name in given:
            shape = (size,) if given[name] == 1 else (len(scores), size)
            given[name] = torch.ones(shape).as_subclass(FakeCudaTensor)
    driver.launched.clear()
    driver.loaded = 0
    fake = scores.as_subclass(FakeCudaTensor)
    sinkhorn(fake, epsilon=0.05, num_iters=3, backend="triton", **given)
    return {"loaded": driver.loaded, "launched": list(driver.launched), "shape": list(scores.shape)}


def main(folder: str) -> None:
    """Make all calls for every target."""
    driver = Driver()
    triton.runtime.driver.set_active(driver)
    calls: dict[str, list[dict[str, Any]]] = {}
    with simulated_gpu(lambda *arguments: None):
        for driver.device, target in enumerate(TARGETS):
            solver._ready.clear()
            calls[target] = [called(driver, *call) for call in CALLS[target]]
    Path(folder, "calls.json").write_text(json.dumps(calls))
    kernels = (
        launches.class_sums,
        launches.class_potentials,
        launches.iteration,
        launches.sample_step,
    )
    for device, target in enumerate(TARGETS):
        for kernel in kernels:
            for number, compiled in enumerate(kernel.device_caches[device][0].values()):
                kind = "amdgcn" if target == "gfx942" else "cubin"
                code = compiled.asm[kind]
                file = Path(folder, f"{target}-{compiled.name}-{number}.{kind}")
                file.write_bytes(code.encode() if isinstance(code, str) else code)


if __name__ == "__main__":
    main(*sys.argv[1:])
