"""Every address that a launch is given belongs to memory that is still held.

PyTorch's allocator gives a freed block to the next request that fits, though kernels that use it
may only be enqueued later. The allocator here does the same in host memory; no kernel runs.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import weakref
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from crkd.ot import sinkhorn
from crkd.ot.cuda import plans

P, N, M = 2, 5000, 300
UNIT = 512
"""Blocks begin at multiples of it, as PyTorch's do."""


class Allocator:
    """Hands out the lowest addresses that fit and takes blocks back when their tensor dies."""

    def __init__(self, size: int) -> None:
        self.memory = (ctypes.c_ubyte * (size + UNIT))()
        ctypes.memset(self.memory, 0xFF, size)
        self.start = -(-ctypes.addressof(self.memory) // UNIT) * UNIT
        self.end = self.start + size
        self.alive: dict[int, int] = {}
        self.calls: dict[int, int] = {}
        self.call = 0

    def empty(self, shape: Any, *, dtype: torch.dtype, device: object) -> Tensor:
        count = math.prod(shape) if isinstance(shape, tuple) else shape
        size = max(UNIT, -(-count * dtype.itemsize // UNIT) * UNIT)
        address = self._place(size)
        block = (ctypes.c_ubyte * size).from_address(address)
        self.alive[address] = size
        self.calls[address] = self.call
        # The storage of the tensor and of all its views holds the block.
        weakref.finalize(block, self._take_back, address)
        return torch.frombuffer(block, dtype=dtype, count=count).reshape(shape)

    def zeros(self, shape: Any, **options: Any) -> Tensor:
        return self.empty(shape, **options).zero_()

    def _take_back(self, address: int) -> None:
        ctypes.memset(address, 0xFF, self.alive.pop(address))

    def _place(self, size: int) -> int:
        address = self.start
        for taken in sorted(self.alive):
            if taken - address >= size:
                break
            address = taken + self.alive[taken]
        assert address + size <= self.end, "the allocator has no more memory"
        return address

    def block_of(self, address: int) -> tuple[int, int] | None:
        """Return start and end of the block that holds an address and is alive."""
        for start, size in self.alive.items():
            if start <= address < start + size:
                return start, start + size
        return None


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    made = Allocator(1 << 27)
    monkeypatch.setattr(torch, "empty", made.empty)
    monkeypatch.setattr(torch, "zeros", made.zeros)
    return made


@pytest.fixture
def launched(allocator: Allocator, benchmark: ModuleType) -> Iterator[list[str]]:
    """Names of the kernels launched so far; each launch has passed :func:`check`."""
    names: list[str] = []

    def launch(stream: int, config: object, kernel: SimpleNamespace, *given: float) -> None:
        name, constants = kernel.code
        names.append(name)
        check(allocator, PARTS[name](given, constants), int(given[7]))

    with benchmark.simulated_gpu(launch):
        yield names


def streaming_parts(given: tuple[Any, ...], constants: dict[str, int]) -> dict[int, int]:
    """Return addresses that ``streaming.cu`` writes to, with the bytes that it may use."""
    chunks, groups = given[12], -(-given[12] // given[13])
    sizes = (2 * P * M, 2 * P * chunks * M, 2 * P * groups * M, P * (groups + 1))
    return {
        given[1]: P * N * M * 4,
        **{int(start): 4 * words for start, words in zip(given[4:8], sizes, strict=True)},
    }


def persistent_parts(given: tuple[Any, ...], constants: dict[str, int]) -> dict[int, int]:
    """Return the same for ``persistent.cu``."""
    device = plans.Device(90, 232448, 16, 132)
    plan = plans.persistent(N, M, device)
    assert plan is not None
    together = min(P, plan.together)
    blocks = together * plan.blocks
    sizes = (
        8 * P * M,
        blocks * plan.stored_bytes,
        4 * together * plan.sums * M,
        0,
        4 * P * plan.cluster,
    )
    parts = zip(given[3:8], sizes, strict=True)
    assert given[4] % 16 == 0, "rows are moved in units of 16 bytes"
    return {int(start): size for start, size in parts if size}


PARTS = {"streaming": streaming_parts, "persistent": persistent_parts}


def check(allocator: Allocator, parts: dict[int, int], counters: int) -> None:
    """Assert that the parts belong to live blocks of the present call and do not overlap."""
    for start, size in parts.items():
        block = allocator.block_of(start)
        assert block is not None, "the memory was given back before the launch"
        assert start + size <= block[1], "the memory is too small"
        assert allocator.calls[block[0]] == allocator.call, "the memory is of an earlier call"
    ordered = sorted(parts)
    for first, second in itertools.pairwise(ordered):
        assert first + parts[first] <= second, "two parts overlap"
    count = parts[counters] // 4
    assert not any((ctypes.c_int * count).from_address(counters)), "counters must start at zero"


@pytest.mark.parametrize("capturing", [False, True])
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_memory_is_held_until_the_last_launch(
    storage: torch.dtype,
    capturing: bool,
    allocator: Allocator,
    launched: list[str],
    benchmark: ModuleType,
) -> None:
    scores = torch.randn(P, N, M).as_subclass(benchmark.FakeCudaTensor)
    kinds = ["streaming"] * 2 if storage == torch.bfloat16 else ["streaming"] * 7
    if storage == torch.bfloat16:
        kinds.insert(1, "persistent")
    for call in range(3):
        allocator.call = call
        launched.clear()
        # The first call loads the kernels, which no capture can do.
        result = {"return_value": capturing and call > 0}
        with mock.patch.object(torch.cuda, "is_current_stream_capturing", **result):
            result = sinkhorn(scores, epsilon=0.1, num_iters=6, storage=storage)
        assert launched == kinds
        held = [allocator.calls[start] for start in allocator.alive]
        assert held == [call], "only the result outlives the call"
        del result
