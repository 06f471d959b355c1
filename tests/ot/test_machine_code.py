"""The compiled kernels: registers, shared memory and barriers of every layout of the benchmark.

No GPU is needed. Attributes are read from the cubin; instructions need a disassembler.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest

from crkd.ot.cuda import compiler, plans
from tests.support import machine_code
from tests.support.machine_code import Code

pytestmark = pytest.mark.usefixtures("nvrtc")

HOPPER = plans.Device(90, 232448, 16, 132)
AMPERE = plans.Device(80, 166912, 1, 108)
NARROW = HOPPER._replace(largest_cluster=8)
SHAPES = [(256, 50), (512, 250), (512, 1000), (1024, 200)]
LARGE = [(8192, 2000), (5000, 300), (20000, 100), (8192, 8000)]
REGISTER_FILE = 65536
PLANNED_WITH = (13, 5)
"""Version of NVRTC by which the limits of the plans were found."""
SPILLED_BEFORE = {"512x1000, 16 blocks": 16}
"""Bytes of local memory that older versions take, as 13.2 of the wheels of PyTorch does."""
RESERVED = {90: 1024, 80: 0}
"""Bytes of shared memory that the system takes from each block."""

Case = tuple[str, plans.Resident | plans.Persistent | plans.Streaming, tuple[tuple[str, int], ...]]


def _constants(constants: dict[str, int], weighted: int = 0) -> tuple[tuple[str, int], ...]:
    types = {"WEIGHTED": weighted, "SCORE_TYPE": weighted, "OUT_TYPE": weighted}
    return tuple((constants | types).items())


def _resident_cases() -> dict[str, tuple[int, Case]]:
    cases: dict[str, tuple[int, Case]] = {}
    for device, limit in ((HOPPER, "16 blocks"), (NARROW, "8 blocks"), (AMPERE, "one block")):
        for n, m in (*SHAPES, (64, 50)):
            plan = plans.resident(n, m, device)
            if plan is None or any(plan == case[1][1] for case in cases.values()):
                continue
            # Weights and short scores, which need more instructions, where registers are scarcest.
            weighted = int(plan.rows_in_registers * plan.columns >= 96)
            case = ("resident", plan, _constants(plan.constants, weighted))
            cases[f"{n}x{m}, {limit}"] = (device.architecture, case)
            dense = plans.two_per_multiprocessor(plan, device)
            if dense is not None and plan.threads > 256:
                case = ("resident", dense, _constants(dense.constants))
                cases[f"{n}x{m}, {limit}, two problems"] = (device.architecture, case)
    return cases


RESIDENT = _resident_cases()
READ = (
    "64x50, 16 blocks",
    "256x50, 16 blocks",
    "512x1000, 16 blocks",
    "512x1000, 8 blocks",
    "1024x200, 16 blocks, two problems",
    "256x50, one block, two problems",
)
"""Resident kernels whose instructions are read: clusters of 2, 8 and 16 blocks, either exchange,
full and half rows of lanes, rows in shared memory, and no cluster."""


def _persistent_cases() -> dict[str, tuple[int, Case]]:
    cases: dict[str, tuple[int, Case]] = {}
    for device, (n, m), weighted in itertools.product((HOPPER, AMPERE), LARGE, (0, 1)):
        plan = plans.persistent(n, m, device)
        assert plan is not None
        # Both kinds of code for each shape, and for each device.
        if weighted == (device == HOPPER) or (device, n, m) == (HOPPER, *LARGE[0]):
            name = f"{n}x{m}, {device.architecture}{', weighted' if weighted else ''}"
            case = ("persistent", plan, _constants(plan.constants, weighted))
            cases[name] = (device.architecture, case)
    return cases


PERSISTENT = _persistent_cases()


def _streaming(step: int) -> Case:
    plan = plans.streaming(*LARGE[0])
    assert plan is not None
    return "streaming", plan, _constants(plan.constants(step))


CASES = {
    **RESIDENT,
    **PERSISTENT,
    **{f"streaming, step {step}": (90, _streaming(step)) for step in range(4)},
}


@functools.cache
def _cubin(name: str) -> bytes:
    architecture, (file, _, constants) = CASES[name]
    return compiler.compiled(compiler.source(file, dict(constants)), f"sm_{architecture}")


def code_of(name: str) -> Code:
    return machine_code.attributes(_cubin(name))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if machine_code.disassembler() is None:
        pytest.skip("nvdisasm is not installed: instructions cannot be read")
    path: Path = tmp_path_factory.mktemp("cubins")
    return path


def nvrtc_version() -> tuple[int, int]:
    """Return the version of the compiler of the kernels."""
    from cuda.bindings import nvrtc

    result, major, minor = nvrtc.nvrtcVersion()
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS
    return int(major), int(minor)


@pytest.mark.parametrize("name", CASES)
def test_registers_and_shared_memory_are_as_planned(name: str) -> None:
    architecture, (file, plan, _) = CASES[name]
    code = code_of(name)
    older = nvrtc_version() < PLANNED_WITH
    spilled = SPILLED_BEFORE.get(name, 0) if older else 0
    assert code.local_bytes <= spilled, "registers are spilled"
    blocks = plan.blocks_per_sm if isinstance(plan, plans.Resident) else 1
    assert code.registers * plan.threads * blocks <= REGISTER_FILE
    own = code.shared_bytes - RESERVED[architecture]
    # The launch plans all shared memory but the flag of the streaming kernel.
    assert own <= (16 if file == "streaming" else 0)
    device = HOPPER if architecture == 90 else AMPERE
    assert own + plan.shared_bytes <= device.shared_bytes


@pytest.mark.parametrize("name", READ)
def test_resident_kernels_have_no_barrier_of_the_whole_device(name: str, folder: Path) -> None:
    """Nowhere, so not in the loop either: blocks wait for bytes in their own shared memory."""
    plan = RESIDENT[name][1][1]
    assert isinstance(plan, plans.Resident)
    found = machine_code.operations(_cubin(name), folder)
    assert not found.count("MEMBAR|ERRBAR|ATOM|RED")
    clusters = plan.cluster > 1
    # The only barrier of the cluster, before the first exchange.
    assert found.count("UCGABAR_ARV").total() == clusters
    waits = found.count("SYNCS.PHASECHK").total()
    assert bool(waits) == bool(found.count("STAS").total()) == clusters
    # Each wait is an acquire of the cluster: it discards what the first-level cache holds.
    assert found.count("CCTL.IVALL").total() >= waits


@pytest.mark.parametrize("name", PERSISTENT)
def test_persistent_kernel_has_one_grid_barrier_in_an_iteration(name: str, folder: Path) -> None:
    """Each barrier is one release (a memory barrier of the GPU, then an addition) and its wait.

    Without clusters there is a second one. With one, every block would read the sums of all 64
    blocks: 64 MB an iteration.
    """
    plan = PERSISTENT[name][1][1]
    assert isinstance(plan, plans.Persistent)
    barriers = 1 if plan.cluster > 1 else 2
    found = machine_code.operations(_cubin(name), folder)
    assert found.count("RED").total() == found.count("MEMBAR.*GPU").total() == barriers
    assert not found.count("ATOM").total()
    # One exchange of masses and one of factors.
    assert found.count("STAS").total() == (2 if plan.cluster > 1 else 0)
    assert found.count("UCGABAR_ARV").total() == (plan.cluster > 1)


def test_a_spill_and_a_memory_barrier_are_found(folder: Path) -> None:
    probe = """extern "C" __global__ void sinkhorn_probe(float* x, int i) {
        float local[64];
        for (int k = 0; k < 64; k++) local[(k * i) & 63] = x[k];
        __threadfence();
        x[0] = local[i & 63];
    }"""
    cubin = compiler.compiled(probe, "sm_90")
    assert machine_code.attributes(cubin).local_bytes >= 256
    assert machine_code.operations(cubin, folder).count("MEMBAR").total() == 1
